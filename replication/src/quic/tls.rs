//! Certificates: one CA per cluster, the region's name as DNS name, on both sides.

use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use webpki::{EndEntityCert, Error, KeyUsage};

use super::{ALPN, BULK_ALPN, QuicConfig, QuicError};
use crate::id::RegionId;

/// Both sides' TLS. Sessions are never resumed and 0-RTT is off: every link proves its certificate,
/// and nothing can be replayed.
pub(super) struct Tls {
    pub(super) server: Arc<QuicServerConfig>,
    pub(super) client: Arc<QuicClientConfig>,
    pub(super) bulk_client: Arc<QuicClientConfig>,
}

impl Tls {
    pub(super) fn new(config: &QuicConfig) -> Result<Self, QuicError> {
        // Explicit: a process-wide default may be another one, or missing.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = roots(&config.ca_pem)?;
        Ok(Self {
            server: server(config, &provider, &roots)?,
            client: client(config, &provider, &roots, ALPN)?,
            bulk_client: client(config, &provider, &roots, BULK_ALPN)?,
        })
    }
}

/// Whether CA, certificate and key belong together, and the certificate speaks for our region alone. Time is not
/// judged: a node whose certificate has run out still serves its clients.
pub(super) fn check(config: &QuicConfig) -> Result<(), QuicError> {
    Tls::new(config)?;
    let (roots, chain) = (roots(&config.ca_pem)?, chain(config)?);
    let Some((leaf, intermediates)) = chain.split_first() else {
        return Err(refused("there is no certificate"));
    };
    let cert = EndEntityCert::try_from(leaf).map_err(refused)?;
    let provider = rustls::crypto::ring::default_provider();
    for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
        let verified = cert.verify_for_usage(
            provider.signature_verification_algorithms.all,
            &roots.roots,
            intermediates,
            UnixTime::now(),
            usage,
            None,
            None,
        );
        match verified {
            Ok(_) | Err(Error::CertExpired { .. } | Error::CertNotValidYet { .. }) => {}
            Err(error) => {
                return Err(refused(format!(
                    "the certificate is not one of this CA's: {error}"
                )));
            }
        }
    }
    Names::new(config)?
        .is_own(leaf)
        .map_err(|reason| refused(format!("{}: {reason}", config.region_name)))
}

fn server(
    config: &QuicConfig,
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
) -> Result<Arc<QuicServerConfig>, QuicError> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
            .build()
            .map_err(refused)?;
    let mut tls = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(refused)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(config)?, key(config)?)
        .map_err(refused)?;
    tls.alpn_protocols = vec![ALPN.to_vec(), BULK_ALPN.to_vec()];
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    tls.max_early_data_size = 0;
    Ok(Arc::new(QuicServerConfig::try_from(tls).map_err(refused)?))
}

fn client(
    config: &QuicConfig,
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    alpn: &[u8],
) -> Result<Arc<QuicClientConfig>, QuicError> {
    let mut tls = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(refused)?
        .with_root_certificates(Arc::clone(roots))
        .with_client_auth_cert(chain(config)?, key(config)?)
        .map_err(refused)?;
    tls.alpn_protocols = vec![alpn.to_vec()];
    tls.resumption = Resumption::disabled();
    tls.enable_early_data = false;
    Ok(Arc::new(QuicClientConfig::try_from(tls).map_err(refused)?))
}

fn refused(error: impl std::fmt::Display) -> QuicError {
    QuicError::Tls(error.to_string())
}

fn roots(pem: &[u8]) -> Result<Arc<RootCertStore>, QuicError> {
    let mut roots = RootCertStore::empty();
    for cert in certs("CA certificate", pem)? {
        roots.add(cert).map_err(refused)?;
    }
    Ok(Arc::new(roots))
}

fn chain(config: &QuicConfig) -> Result<Vec<CertificateDer<'static>>, QuicError> {
    certs("certificate", &config.cert_pem)
}

fn certs(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, QuicError> {
    let unreadable = |reason: String| QuicError::Pem { what, reason };
    let certs = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unreadable(error.to_string()))?;
    if certs.is_empty() {
        return Err(unreadable("there is none".into()));
    }
    Ok(certs)
}

fn key(config: &QuicConfig) -> Result<PrivateKeyDer<'static>, QuicError> {
    PrivateKeyDer::from_pem_slice(&config.key_pem).map_err(|error| QuicError::Pem {
        what: "private key",
        reason: error.to_string(),
    })
}

/// The names that certificates are held against: peers by number, and our own.
#[derive(Debug)]
pub(super) struct Names(Vec<(Option<RegionId>, String, ServerName<'static>)>);

impl Names {
    pub(super) fn new(config: &QuicConfig) -> Result<Self, QuicError> {
        let name = |region, name: &str| {
            let dns = ServerName::try_from(name.to_owned())
                .map_err(|_| QuicError::Name(name.to_owned()))?;
            Ok((region, name.to_owned(), dns))
        };
        let peers = config.peers.iter().map(|p| name(Some(p.region), &p.name));
        std::iter::once(name(None, &config.region_name))
            .chain(peers)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The one region that a verified certificate speaks for.
    pub(super) fn region(&self, cert: &CertificateDer<'_>) -> Result<RegionId, String> {
        match self.one(cert)? {
            (Some(region), _) => Ok(region),
            (None, name) => Err(format!("its certificate is our own region's, {name}")),
        }
    }

    /// Whether our own certificate speaks for our region.
    fn is_own(&self, cert: &CertificateDer<'_>) -> Result<(), String> {
        match self.one(cert)? {
            (None, _) => Ok(()),
            (Some(_), name) => Err(format!("its certificate is that of region {name}")),
        }
    }

    fn one(&self, cert: &CertificateDer<'_>) -> Result<(Option<RegionId>, &str), String> {
        let cert = EndEntityCert::try_from(cert).map_err(|error| error.to_string())?;
        let mut fits = self
            .0
            .iter()
            .filter(|(.., dns)| cert.verify_is_valid_for_subject_name(dns).is_ok());
        match (fits.next(), fits.next()) {
            (Some((region, name, _)), None) => Ok((*region, name)),
            (None, _) => Err("its certificate names no region of ours".into()),
            _ => Err("its certificate names several regions".into()),
        }
    }
}
