//! Who a certificate speaks for: its one DNS name, `NAME.node.CLUSTER` or `NAME.client.CLUSTER`.

use std::fmt;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::types::check_label;

/// What a process is to the cluster; each has its own ALPN and its own certificate names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A member: holds data, speaks to members.
    Node,
    /// Anyone else with a certificate.
    Client,
}

impl Role {
    /// The word in certificate names, file names and commands.
    pub const fn word(self) -> &'static str {
        match self {
            Role::Node => "node",
            Role::Client => "client",
        }
    }

    /// The protocol that a process of this role asks for when it dials a node; it carries the wire's version.
    pub const fn alpn(self) -> &'static [u8] {
        match self {
            Role::Node => b"dynkv-node/1",
            Role::Client => b"dynkv-client/1",
        }
    }

    pub(super) fn of_alpn(alpn: &[u8]) -> Option<Role> {
        [Role::Node, Role::Client].into_iter().find(|role| role.alpn() == alpn)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Whom a certificate names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerIdentity {
    /// Node or client.
    pub role: Role,
    /// The node's or client's name: a DNS label.
    pub name: String,
    /// The cluster's name: a DNS label.
    pub cluster: String,
}

impl PeerIdentity {
    /// Parses `NAME.ROLE.CLUSTER`.
    pub fn parse(dns_name: &str) -> Option<PeerIdentity> {
        let mut labels = dns_name.split('.');
        let (name, role, cluster) = (labels.next()?, labels.next()?, labels.next()?);
        let role = [Role::Node, Role::Client].into_iter().find(|known| known.word() == role)?;
        let well_formed =
            labels.next().is_none() && check_label("name", name).is_ok() && check_label("cluster", cluster).is_ok();
        well_formed.then(|| PeerIdentity { role, name: name.to_owned(), cluster: cluster.to_owned() })
    }

    /// Reads the one DNS name of a certificate.
    ///
    /// # Errors
    /// Says what the certificate has instead.
    pub(super) fn of_certificate(der: &[u8]) -> Result<PeerIdentity, String> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|err| format!("it is not X.509: {err}"))?;
        let names = certificate.subject_alternative_name().map_err(|err| format!("its names are malformed: {err}"))?;
        let names = names.map_or(&[][..], |extension| &extension.value.general_names);
        match names {
            [GeneralName::DNSName(name)] => PeerIdentity::parse(name)
                .ok_or_else(|| format!("its name {name:?} is neither NAME.node.CLUSTER nor NAME.client.CLUSTER")),
            _ => Err(format!("it has {} names and not one DNS name", names.len())),
        }
    }
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.name, self.role, self.cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_three_labels_the_second_a_role() {
        let parsed = PeerIdentity::parse("n1.node.prod").unwrap();
        assert_eq!(parsed, PeerIdentity { role: Role::Node, name: "n1".into(), cluster: "prod".into() });
        assert_eq!(parsed.to_string(), "n1.node.prod");
        assert_eq!(PeerIdentity::parse("app.client.prod").unwrap().role, Role::Client);
        for bad in
            ["", "node.prod", "n1.node", "n1.node.prod.x", "n1.admin.prod", ".node.prod", "N.node.prod", "*.node.p"]
        {
            assert_eq!(PeerIdentity::parse(bad), None, "{bad:?}");
        }
    }
}
