use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, crypto::ring};
use whimbrel_client::token::{Claims, SigningKey, public_keys, verify};
use whimbrel_node::{ca, keys};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_token_of_the_private_key_holds_with_the_public_one() {
    let dir = tempfile::tempdir().unwrap();
    let made = keys::make(&dir.path().join("new")).unwrap();
    let claims = Claims {
        sub: "ada".to_owned(),
        exp: 4_000_000_000,
        scope: None,
    };
    let token = SigningKey::from_pem_file(&made.private)
        .unwrap()
        .sign(&claims)
        .unwrap();
    let public = public_keys(&fs::read(&made.public).unwrap()).unwrap();
    assert_eq!(verify(&token, &public).unwrap(), claims);
    assert_eq!((mode(&made.private), mode(&made.public)), (0o600, 0o644));
}

#[test]
fn nothing_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let made = keys::make(dir.path()).unwrap();
    let before = fs::read(&made.private).unwrap();
    let error = keys::make(dir.path()).unwrap_err().to_string();
    assert!(error.contains("not overwritten"), "{error}");
    assert_eq!(fs::read(&made.private).unwrap(), before);

    ca::make(dir.path(), 10).unwrap();
    assert!(ca::make(dir.path(), 10).is_err());
    ca::issue(dir.path(), "eu", dir.path(), 10).unwrap();
    assert!(ca::issue(dir.path(), "eu", dir.path(), 10).is_err());
}

#[test]
fn what_cannot_be_issued_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = ca::issue(dir.path(), "eu", dir.path(), 10).unwrap_err();
    assert!(format!("{error:#}").contains("ca init"), "{error:#}");
    ca::make(dir.path(), 10).unwrap();
    for region in ["", "EU", "../eu", "ca", "token"] {
        assert!(ca::issue(dir.path(), region, dir.path(), 10).is_err());
    }
    assert!(ca::issue(dir.path(), "eu", dir.path(), 0).is_err());
}

/// Whether a node certificate holds on both ends of a link, for `name`, under the authority.
fn holds(authority: &Path, made: &ca::Certificate, name: &str) -> bool {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(authority).unwrap())
        .unwrap();
    let roots = Arc::new(roots);
    let provider = Arc::new(ring::default_provider());
    let cert = CertificateDer::from_pem_file(&made.cert).unwrap();
    let key = PrivateKeyDer::from_pem_file(&made.key).unwrap();
    provider.key_provider.load_private_key(key).unwrap();
    let client = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .unwrap()
        .verify_client_cert(&cert, &[], UnixTime::now());
    let server = rustls::client::WebPkiServerVerifier::builder_with_provider(roots, provider)
        .build()
        .unwrap();
    let server = rustls::client::danger::ServerCertVerifier::verify_server_cert(
        server.as_ref(),
        &cert,
        &[],
        &ServerName::try_from(name.to_owned()).unwrap(),
        &[],
        UnixTime::now(),
    );
    client.is_ok() && server.is_ok()
}

#[test]
fn certificates_hold_for_their_region_under_their_authority() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    let authority = ca::make(&ours, 10).unwrap();
    let other = ca::make(&theirs, 10).unwrap();
    let eu = ca::issue(&ours, "eu", dir.path(), 10).unwrap();
    assert!(holds(&authority.cert, &eu, "eu"));
    assert!(!holds(&authority.cert, &eu, "us"));
    assert!(!holds(&other.cert, &eu, "eu"));
    assert_eq!((mode(&authority.key), mode(&eu.key)), (0o600, 0o600));
}
