//! A process's own certificate and the TLS settings made from it: TLS 1.3 only, both ends show a certificate, no session
//! is resumed (a resumed one would skip the checks, and outlive a reload) and so nothing is ever sent before the handshake.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::RootCertStore;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::error::NetError;
use super::identity::{PeerIdentity, Role};
use super::secret::{read_private, read_public};
use super::transport::ResetState;
use super::verify::PeerVerifier;

/// *ring*, for TLS and for every random byte of this module.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Where a process's certificate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authority that both ends trust, PEM.
    pub ca: PathBuf,
    /// The process's own certificate, PEM.
    pub cert: PathBuf,
    /// Its key, PEM; refused if others can read it.
    pub key: PathBuf,
}

/// A loaded certificate: who this process is, and whom it trusts. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    files: TlsFiles,
    identity: PeerIdentity,
    reset: ResetState,
    server: Arc<QuicServerConfig>,
    as_node: Arc<QuicClientConfig>,
    as_client: Arc<QuicClientConfig>,
}

impl Tls {
    /// Reads the files. Whether the certificate has expired is left to the peers' clocks.
    ///
    /// # Errors
    /// [`NetError::File`], [`NetError::Exposed`] for a key that others can read, [`NetError::BadFile`] for anything that
    /// is not PEM of the right kind, a key of another certificate, or a certificate that `dynkv certs` did not make.
    pub fn load(files: &TlsFiles) -> Result<Tls, NetError> {
        let chain = certificates(&files.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&read_private(&files.key)?)
            .map_err(|err| bad_file(&files.key, format!("not a private key in PEM: {err}")))?;
        let reset = ResetState::of_secret(key.secret_der());
        let identity = PeerIdentity::of_certificate(&chain[0])
            .map_err(|reason| bad_file(&files.cert, format!("not a certificate that `dynkv certs` made: {reason}")))?;

        let mut roots = RootCertStore::empty();
        for certificate in certificates(&files.ca)? {
            roots.add(certificate).map_err(|err| bad_file(&files.ca, format!("not an authority: {err}")))?;
        }
        let verifier = PeerVerifier::new(roots, &identity.cluster)
            .map_err(|err| bad_file(&files.ca, format!("not an authority: {err}")))?;
        let settings = Settings { verifier: Arc::new(verifier), chain, key };
        let bad_pair =
            |err: rustls::Error| bad_file(&files.key, format!("not the key of {}: {err}", files.cert.display()));
        Ok(Tls {
            files: files.clone(),
            identity,
            reset,
            server: settings.server().map_err(bad_pair)?,
            as_node: settings.client(Role::Node).map_err(bad_pair)?,
            as_client: settings.client(Role::Client).map_err(bad_pair)?,
        })
    }

    /// Reads the same files again.
    ///
    /// # Errors
    /// As [`Tls::load`]; `self` is not affected.
    pub fn reload(&self) -> Result<Tls, NetError> {
        Tls::load(&self.files)
    }

    /// Whom the own certificate names.
    pub fn identity(&self) -> &PeerIdentity {
        &self.identity
    }

    /// What an endpoint of this certificate's key begins with: a process whose directory was lost is known by it.
    pub fn reset_state(&self) -> ResetState {
        self.reset.clone()
    }

    pub(super) fn server(&self) -> Arc<QuicServerConfig> {
        self.server.clone()
    }

    pub(super) fn client(&self, role: Role) -> Arc<QuicClientConfig> {
        match role {
            Role::Node => self.as_node.clone(),
            Role::Client => self.as_client.clone(),
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).field("identity", &self.identity).finish_non_exhaustive()
    }
}

struct Settings {
    verifier: Arc<PeerVerifier>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Settings {
    fn server(&self) -> Result<Arc<QuicServerConfig>, rustls::Error> {
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(self.verifier.clone())
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = [Role::Node, Role::Client].map(|role| role.alpn().to_vec()).into();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        let config = QuicServerConfig::try_from(config).expect("ring has the cipher suite of QUIC's first packets");
        Ok(Arc::new(config))
    }

    fn client(&self, role: Role) -> Result<Arc<QuicClientConfig>, rustls::Error> {
        let mut config = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier.clone())
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![role.alpn().to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        let config = QuicClientConfig::try_from(config).expect("ring has the cipher suite of QUIC's first packets");
        Ok(Arc::new(config))
    }
}

fn bad_file(path: &Path, reason: String) -> NetError {
    NetError::BadFile { path: path.to_owned(), reason }
}

/// At least one certificate.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, NetError> {
    let pem = read_public(path)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|err| bad_file(path, format!("not a certificate in PEM: {err}")))?;
    if certificates.is_empty() {
        return Err(bad_file(path, "no certificate in it".to_owned()));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::time::SystemTime;

    use super::*;
    use crate::net::{Validity, init_ca, issue_node};

    #[test]
    fn files_that_do_not_fit_are_refused_and_named() {
        let dir = tempfile::tempdir().unwrap();
        init_ca(dir.path(), "prod").unwrap();
        for name in ["n1", "n2"] {
            issue_node(dir.path(), name, Validity::leaf(SystemTime::now())).unwrap();
        }
        let file = |name: &str| dir.path().join(name);
        let good = TlsFiles { ca: file("ca.pem"), cert: file("n1.node.pem"), key: file("n1.node.key") };
        assert_eq!(Tls::load(&good).unwrap().reload().unwrap().identity().to_string(), "n1.node.prod");

        let error = |files: TlsFiles| Tls::load(&files).unwrap_err().to_string();
        let text = error(TlsFiles { key: file("n2.node.key"), ..good.clone() });
        assert!(text.contains("n2.node.key: not the key of"), "{text}");
        let text = error(TlsFiles { cert: file("ca.pem"), ..good.clone() });
        assert!(text.contains("ca.pem: not a certificate that `dynkv certs` made"), "{text}");
        let text = error(TlsFiles { ca: file("n1.node.key"), ..good.clone() });
        assert!(text.contains("n1.node.key: no certificate"), "{text}");
        fs::set_permissions(&good.key, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Tls::load(&good), Err(NetError::Exposed { mode: 0o640, .. })));
    }
}
