//! Until when this node's certificate towards other regions is valid.

use anyhow::Context as _;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// The end of the first certificate of a PEM file, in Unix seconds.
///
/// # Errors
///
/// There is no certificate in it, or it is none of X.509.
pub fn expires(pem: &[u8]) -> anyhow::Result<i64> {
    let der = CertificateDer::from_pem_slice(pem).context("there is no certificate in the file")?;
    let (_, certificate) =
        x509_parser::parse_x509_certificate(&der).context("the certificate is not X.509")?;
    Ok(certificate.validity().not_after.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca;
    use crate::clock::unix_ms;

    #[test]
    fn the_end_is_that_of_the_nodes_certificate() {
        const DAYS: u32 = 30;
        let folder = tempfile::tempdir().unwrap();
        ca::make(folder.path(), ca::CA_DAYS).unwrap();
        let made = ca::issue(folder.path(), "eu", folder.path(), DAYS).unwrap();
        let end = expires(&std::fs::read(made.cert).unwrap()).unwrap();
        let left = end - unix_ms() / 1_000;
        let expected = i64::from(DAYS) * 24 * 60 * 60;
        assert!((expected - 60..=expected).contains(&left), "{left}");
    }

    #[test]
    fn what_is_no_certificate_is_told() {
        for (pem, expected) in [
            (&b""[..], "there is no certificate"),
            (
                b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "not X.509",
            ),
        ] {
            let error = expires(pem).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
