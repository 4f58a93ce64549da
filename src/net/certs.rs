//! Makes a cluster's certificates: one Ed25519 authority, and a leaf for each node and client.
//!
//! | file | what | mode |
//! |---|---|---|
//! | `ca.pem`, `ca.key` | the authority; the key issues certificates and is needed nowhere else | 0644, 0600 |
//! | `cluster.secret` | 32 random bytes in hexadecimal, the same on every node | 0600 |
//! | `NAME.node.pem`, `NAME.node.key` | a node's certificate and key | 0644, 0600 |
//! | `NAME.client.pem`, `NAME.client.key` | a client's | 0644, 0600 |
//!
//! No file is ever overwritten.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::error::NetError;
use super::identity::{PeerIdentity, Role};
use super::secret::{check_absent, create, read_private, read_public};
use super::tls::provider;
use crate::types::check_label;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// A certificate is valid this long before it was made, for machines whose clocks are behind.
const BACKDATED: Duration = Duration::from_secs(60 * 60);
const CA_DAYS: u32 = 3650;
const LEAF_DAYS: u32 = 365;

/// From when to when a certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub not_before: SystemTime,
    /// The last moment.
    pub not_after: SystemTime,
}

impl Validity {
    /// From an hour before `now` until `days` after it.
    pub fn days(now: SystemTime, days: u32) -> Validity {
        Validity { not_before: now - BACKDATED, not_after: now + DAY * days }
    }

    /// A leaf's default: one year.
    pub fn leaf(now: SystemTime) -> Validity {
        Validity::days(now, LEAF_DAYS)
    }
}

/// Makes the authority and the secret of a new cluster in `dir`, which is made if it is not there. The authority is valid
/// for ten years.
///
/// # Errors
/// [`NetError::Name`] for a cluster name that is not a DNS label; [`NetError::Exists`] if `dir` has an authority or a
/// secret already; [`NetError::File`].
pub fn init_ca(dir: &Path, cluster: &str) -> Result<(), NetError> {
    check_label("cluster", cluster)?;
    fs::create_dir_all(dir).map_err(|source| NetError::File { action: "create", path: dir.to_owned(), source })?;
    let (certificate, key, secret) = (dir.join("ca.pem"), dir.join("ca.key"), dir.join("cluster.secret"));
    check_absent([&*certificate, &*key, &*secret])?;

    let mut params = params(cluster, Validity::days(SystemTime::now(), CA_DAYS));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_key = KeyPair::generate_for(&PKCS_ED25519)?;
    let ca = params.self_signed(&ca_key)?;

    let mut random = [0; 32];
    provider().secure_random.fill(&mut random).map_err(|_| rcgen::Error::RingUnspecified)?;
    create(&key, 0o600, ca_key.serialize_pem().as_bytes())?;
    create(&secret, 0o600, format!("{}\n", data_encoding::HEXLOWER.encode(&random)).as_bytes())?;
    create(&certificate, 0o644, ca.pem().as_bytes())
}

/// Issues `NAME.node.pem` and `NAME.node.key` with the authority in `dir`; returns the identity in the certificate.
///
/// # Errors
/// [`NetError::Name`] for a name that is not a DNS label; [`NetError::Exists`]; [`NetError::File`] or
/// [`NetError::BadFile`] if the authority cannot be read, [`NetError::Exposed`] if others can read its key.
pub fn issue_node(dir: &Path, name: &str, validity: Validity) -> Result<PeerIdentity, NetError> {
    issue(dir, name, Role::Node, validity)
}

/// Issues `NAME.client.pem` and `NAME.client.key`; otherwise as [`issue_node`].
///
/// # Errors
/// As [`issue_node`].
pub fn issue_client(dir: &Path, name: &str, validity: Validity) -> Result<PeerIdentity, NetError> {
    issue(dir, name, Role::Client, validity)
}

fn issue(dir: &Path, name: &str, role: Role, validity: Validity) -> Result<PeerIdentity, NetError> {
    let cluster = cluster_of(&dir.join("ca.pem"))?;
    issue_as(dir, &PeerIdentity { role, name: name.to_owned(), cluster }, validity)
}

/// Issues a certificate for `identity`, whatever cluster it names.
pub(super) fn issue_as(dir: &Path, identity: &PeerIdentity, validity: Validity) -> Result<PeerIdentity, NetError> {
    let PeerIdentity { role, name, .. } = identity;
    check_label(role.word(), name)?;
    let (pem, key) = (dir.join(format!("{name}.{role}.pem")), dir.join(format!("{name}.{role}.key")));
    check_absent([&*pem, &*key])?;
    let issuer = load_issuer(dir)?;

    let mut params = params(name, validity);
    params.subject_alt_names = CertificateParams::new([identity.to_string()])?.subject_alt_names;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match role {
        Role::Node => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        Role::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
    };
    let leaf_key = KeyPair::generate_for(&PKCS_ED25519)?;
    let leaf = params.signed_by(&leaf_key, &issuer)?;
    create(&key, 0o600, leaf_key.serialize_pem().as_bytes())?;
    create(&pem, 0o644, leaf.pem().as_bytes())?;
    Ok(identity.clone())
}

fn params(common_name: &str, validity: Validity) -> CertificateParams {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "dynkv");
    subject.push(DnType::CommonName, common_name);
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.not_before = validity.not_before.into();
    params.not_after = validity.not_after.into();
    params
}

fn load_issuer(dir: &Path) -> Result<Issuer<'static, KeyPair>, NetError> {
    let (pem_path, key_path) = (dir.join("ca.pem"), dir.join("ca.key"));
    let bad = |path: &Path, reason: String| NetError::BadFile { path: path.to_owned(), reason };
    let key = String::from_utf8(read_private(&key_path)?).map_err(|err| bad(&key_path, err.to_string()))?;
    let key = KeyPair::from_pem(&key).map_err(|err| bad(&key_path, format!("not a private key: {err}")))?;
    let pem = String::from_utf8(read_public(&pem_path)?).map_err(|err| bad(&pem_path, err.to_string()))?;
    Issuer::from_ca_cert_pem(&pem, key).map_err(|err| bad(&pem_path, format!("not a certificate: {err}")))
}

/// The cluster's name: the common name of its authority.
fn cluster_of(ca: &Path) -> Result<String, NetError> {
    let bad = |reason: String| NetError::BadFile { path: ca.to_owned(), reason };
    let pem = read_public(ca)?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).map_err(|err| bad(format!("not PEM: {err}")))?;
    let (_, certificate) =
        X509Certificate::from_der(&pem.contents).map_err(|err| bad(format!("not a certificate: {err}")))?;
    let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok()).unwrap_or_default();
    check_label("cluster", name)?;
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::net::load_secret;

    fn leaf() -> Validity {
        Validity::leaf(SystemTime::now())
    }

    #[test]
    fn init_and_issue_make_files_of_the_right_modes_and_names() {
        let dir = tempfile::tempdir().unwrap();
        init_ca(dir.path(), "prod").unwrap();
        assert_eq!(issue_node(dir.path(), "n1", leaf()).unwrap().to_string(), "n1.node.prod");
        assert_eq!(issue_client(dir.path(), "app", leaf()).unwrap().to_string(), "app.client.prod");
        let mut files: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
                (entry.file_name().into_string().unwrap(), mode & 0o077 == 0)
            })
            .collect();
        files.sort();
        let expected = [
            ("app.client.key", true),
            ("app.client.pem", false),
            ("ca.key", true),
            ("ca.pem", false),
            ("cluster.secret", true),
            ("n1.node.key", true),
            ("n1.node.pem", false),
        ];
        assert_eq!(files, expected.map(|(name, private)| (name.to_owned(), private)));
        load_secret(&dir.path().join("cluster.secret")).unwrap();
    }

    #[test]
    fn nothing_is_made_twice() {
        let dir = tempfile::tempdir().unwrap();
        init_ca(dir.path(), "prod").unwrap();
        issue_node(dir.path(), "n1", leaf()).unwrap();
        let before = fs::read(dir.path().join("n1.node.key")).unwrap();
        assert!(matches!(init_ca(dir.path(), "prod"), Err(NetError::Exists { .. })));
        assert!(matches!(issue_node(dir.path(), "n1", leaf()), Err(NetError::Exists { .. })));
        assert_eq!(fs::read(dir.path().join("n1.node.key")).unwrap(), before);
        fs::remove_file(dir.path().join("n1.node.pem")).unwrap();
        let text = issue_node(dir.path(), "n1", leaf()).unwrap_err().to_string();
        assert!(text.contains("n1.node.key") && text.contains("not overwritten"), "{text}");
    }

    #[test]
    fn names_are_labels_and_the_authority_key_is_private() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(init_ca(dir.path(), "Prod"), Err(NetError::Name(_))));
        assert!(matches!(issue_node(dir.path(), "n1", leaf()), Err(NetError::File { .. })));
        init_ca(dir.path(), "prod").unwrap();
        assert!(matches!(issue_node(dir.path(), "../n1", leaf()), Err(NetError::Name(_))));
        fs::set_permissions(dir.path().join("ca.key"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(issue_node(dir.path(), "n1", leaf()), Err(NetError::Exposed { mode: 0o644, .. })));
    }
}
