//! Checks a peer's certificate during the handshake: first its chain, as webpki does, then our rules for names.
//!
//! webpki verifies a server's certificate *for a name*. A seed is dialed by address, its name not yet known; so the chain
//! is verified for the name that the certificate itself carries, and that name must then be `*.node.CLUSTER` of our own
//! cluster, and the expected one if there is an expectation.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::identity::{PeerIdentity, Role};
use super::tls::provider;

/// The server name that means "any node of this cluster". No node has it: nodes' names have one label more.
pub(super) fn any_node(cluster: &str) -> String {
    format!("{}.{cluster}", Role::Node)
}

/// Why a certificate is refused. The end that refuses it reports this text and sends it to the other end, so it names the
/// certificate and takes neither side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CertFault {
    /// It is not one of ours at all.
    Malformed { reason: String },
    /// Another authority signed it.
    Authority { name: String, issuer: String },
    /// Its time is over.
    Expired { name: String, role: Role, since: String },
    /// Its time has not come.
    NotYetValid { name: String, until: String },
    /// A client's where a node's is needed, or the other way round.
    WrongRole { name: String, needed: Role },
    /// It is of another cluster.
    WrongCluster { name: String, cluster: String },
    /// Another node answers at this address.
    WrongName { name: String, expected: String },
    /// Whatever else webpki objects to.
    Other { name: String, reason: String },
}

impl std::error::Error for CertFault {}

impl fmt::Display for CertFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertFault::Malformed { reason } => {
                write!(f, "the certificate is not a dynkv certificate ({reason}): use one that `dynkv certs` made")
            }
            CertFault::Authority { name, issuer } => write!(
                f,
                "the certificate {name} is signed by another authority ({issuer}): all certificates and every ca.pem \
                 must come from one `dynkv certs init`"
            ),
            CertFault::Expired { name, role, since } => write!(
                f,
                "the certificate {name} has expired at {since}: issue a new one with `dynkv certs {role}` and reload \
                 (or set the clocks)"
            ),
            CertFault::NotYetValid { name, until } => {
                write!(f, "the certificate {name} is not yet valid, only from {until}: set the clocks of both machines")
            }
            CertFault::WrongRole { name, needed } => write!(
                f,
                "the certificate {name} has the wrong role, a {needed}'s is needed here: use NAME.{needed}.pem and \
                 NAME.{needed}.key"
            ),
            CertFault::WrongCluster { name, cluster } => write!(
                f,
                "the certificate {name} is of another cluster than {cluster:?}: check the address and which \
                 certificate is used"
            ),
            CertFault::WrongName { name, expected } => write!(
                f,
                "the certificate {name} was shown at the address of node {expected:?}: check the advertised addresses"
            ),
            CertFault::Other { name, reason } => {
                write!(f, "the certificate {name} is not acceptable ({reason}): issue a new one with `dynkv certs`")
            }
        }
    }
}

impl From<CertFault> for rustls::Error {
    fn from(fault: CertFault) -> rustls::Error {
        // not InvalidCertificate(Other(..)): that prints, and sends the peer, the Debug form
        rustls::Error::Other(OtherError(Arc::new(fault)))
    }
}

/// Words a finding of webpki's about the certificate of `peer`, which ought to have the role `needed`.
fn chain_fault(error: rustls::Error, der: &[u8], peer: &PeerIdentity, needed: Role) -> CertFault {
    let name = peer.to_string();
    match error {
        rustls::Error::InvalidCertificate(error) => match error {
            // an authority of the same name but another key shows as a bad signature
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                CertFault::Authority { name, issuer: issuer_of(der) }
            }
            CertificateError::ExpiredContext { not_after, .. } => {
                CertFault::Expired { name, role: peer.role, since: date(not_after) }
            }
            CertificateError::NotValidYetContext { not_before, .. } => {
                CertFault::NotYetValid { name, until: date(not_before) }
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                CertFault::WrongRole { name, needed }
            }
            other => CertFault::Other { name, reason: other.to_string() },
        },
        other => CertFault::Other { name, reason: other.to_string() },
    }
}

fn date(time: UnixTime) -> String {
    // a certificate can name a year that the formatter refuses to print
    let latest = Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(time.as_secs()).min(latest)).to_string()
}

fn issuer_of(der: &[u8]) -> String {
    X509Certificate::from_der(der).map_or_else(|_| "unreadable".to_owned(), |(_, cert)| cert.issuer().to_string())
}

fn identity_of(der: &[u8]) -> Result<PeerIdentity, CertFault> {
    PeerIdentity::of_certificate(der).map_err(|reason| CertFault::Malformed { reason })
}

/// Checks a peer's certificate against one authority and one cluster's name.
#[derive(Debug)]
pub(super) struct PeerVerifier {
    cluster: String,
    servers: Arc<WebPkiServerVerifier>,
    clients: Arc<dyn ClientCertVerifier>,
}

impl PeerVerifier {
    /// Trusts `roots` and only certificates of `cluster`.
    pub(super) fn new(
        roots: RootCertStore,
        cluster: &str,
    ) -> Result<PeerVerifier, rustls::server::VerifierBuilderError> {
        let roots = Arc::new(roots);
        Ok(PeerVerifier {
            cluster: cluster.to_owned(),
            servers: WebPkiServerVerifier::builder_with_provider(roots.clone(), provider()).build()?,
            clients: WebPkiClientVerifier::builder_with_provider(roots, provider()).build()?,
        })
    }

    fn check_cluster(&self, peer: &PeerIdentity) -> Result<(), CertFault> {
        if peer.cluster == self.cluster {
            Ok(())
        } else {
            Err(CertFault::WrongCluster { name: peer.to_string(), cluster: self.cluster.clone() })
        }
    }

    fn check_server(&self, peer: &PeerIdentity, dialed: &ServerName<'_>) -> Result<(), CertFault> {
        let name = peer.to_string();
        if peer.role != Role::Node {
            return Err(CertFault::WrongRole { name, needed: Role::Node });
        }
        self.check_cluster(peer)?;
        let dialed = dialed.to_str();
        if dialed == any_node(&self.cluster) || dialed == name {
            return Ok(());
        }
        let expected = dialed.split('.').next().unwrap_or_default().to_owned();
        Err(CertFault::WrongName { name, expected })
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let peer = identity_of(end_entity)?;
        let own_name = ServerName::try_from(peer.to_string())
            .map_err(|err| CertFault::Malformed { reason: format!("{peer} is not a DNS name: {err}") })?;
        let verified = self
            .servers
            .verify_server_cert(end_entity, intermediates, &own_name, ocsp_response, now)
            .map_err(|error| chain_fault(error, end_entity, &peer, Role::Node))?;
        self.check_server(&peer, server_name)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.servers.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.servers.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.servers.supported_verify_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.clients.root_hint_subjects()
    }

    /// The role is checked against the ALPN after the handshake: rustls does not tell it here.
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let peer = identity_of(end_entity)?;
        let verified = self
            .clients
            .verify_client_cert(end_entity, intermediates, now)
            .map_err(|error| chain_fault(error, end_entity, &peer, peer.role))?;
        self.check_cluster(&peer)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.clients.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.clients.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.clients.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use rustls_pki_types::pem::PemObject;

    use super::*;
    use crate::net::certs::{Validity, init_ca, issue_as};

    /// A dialer's own check of the node hides this one, unless somebody has written a dialer of their own.
    #[test]
    fn a_dialer_of_another_cluster_is_refused_by_the_node_too() {
        let dir = tempfile::tempdir().unwrap();
        init_ca(dir.path(), "test").unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(dir.path().join("ca.pem")).unwrap()).unwrap();
        let verifier = PeerVerifier::new(roots, "test").unwrap();
        let verify = |identity: &str| {
            let identity = PeerIdentity::parse(identity).unwrap();
            issue_as(dir.path(), &identity, Validity::leaf(SystemTime::now())).unwrap();
            let file = dir.path().join(format!("{}.{}.pem", identity.name, identity.role));
            verifier.verify_client_cert(&CertificateDer::from_pem_file(file).unwrap(), &[], UnixTime::now())
        };
        verify("n1.node.test").unwrap();
        verify("app.client.test").unwrap();
        for stranger in ["n2.node.prod", "other.client.prod"] {
            let text = verify(stranger).unwrap_err().to_string();
            assert!(text.contains(&format!("{stranger} is of another cluster than \"test\"")), "{text}");
        }
    }
}
