//! The cluster's certificate authority, and the certificates by which nodes know each other.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519,
};

use crate::config::check_region_name;
use crate::files::{self, Access};
use crate::keys;

/// How long a new authority is valid. Default: 20 years.
pub const CA_DAYS: u32 = 20 * 365;
/// How long a new node certificate is valid. Default: 2 years.
pub const NODE_DAYS: u32 = 2 * 365;

/// Certificates start a day early, for clocks that are behind.
const BACKDATE: Duration = Duration::from_secs(24 * 60 * 60);

/// A certificate and its key, in PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate.
    pub cert: PathBuf,
    /// Its private key, PKCS#8.
    pub key: PathBuf,
}

impl Certificate {
    /// The names of the authority's files in `dir`.
    pub fn ca(dir: &Path) -> Self {
        Self::named(dir, "ca")
    }

    /// The names of a region's files in `dir`.
    pub fn node(dir: &Path, region: &str) -> Self {
        Self::named(dir, region)
    }

    fn named(dir: &Path, name: &str) -> Self {
        Self {
            cert: dir.join(format!("{name}.pem")),
            key: dir.join(format!("{name}.key.pem")),
        }
    }

    fn write(&self, cert: &str, key: &KeyPair) -> anyhow::Result<()> {
        files::write_new(&self.key, &keys::private_pem(key)?, Access::Owner)?;
        files::write_new(&self.cert, cert, Access::Everyone)
    }
}

/// Makes an authority in `dir`. Existing files are left alone, and an error.
///
/// Whoever has its key can join the cluster as any region.
pub fn make(dir: &Path, days: u32) -> anyhow::Result<Certificate> {
    files::make_dir(dir)?;
    let paths = Certificate::ca(dir);
    let key = new_key()?;
    let cert = authority(days)?
        .self_signed(&key)
        .context("cannot sign the authority")?;
    paths.write(&cert.pem(), &key)?;
    Ok(paths)
}

/// Issues a certificate for the nodes of `region` into `out`, with the authority in `ca_dir`.
/// Its DNS name is the region's; it serves both ends of a link.
pub fn issue(ca_dir: &Path, region: &str, out: &Path, days: u32) -> anyhow::Result<Certificate> {
    check_region_name(region).map_err(|problem| anyhow::anyhow!("region `{region}`: {problem}"))?;
    anyhow::ensure!(
        !["ca", "token"].contains(&region),
        "a region cannot be called `{region}`: beside the CA's and the token keys its files would be theirs"
    );
    let ca = Certificate::ca(ca_dir);
    let ca_key = fs::read_to_string(&ca.key).with_context(|| {
        format!(
            "cannot read {}; `whimbrel-node ca init` makes an authority",
            ca.key.display()
        )
    })?;
    let ca_key = KeyPair::from_pem(&ca_key)
        .with_context(|| format!("{} is not a private key", ca.key.display()))?;
    let issuer = Issuer::new(authority(days)?, ca_key);

    let mut params = params(region, days, vec![region.to_owned()])?;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::ServerAuth,
    ];
    let key = new_key()?;
    let cert = params
        .signed_by(&key, &issuer)
        .context("cannot sign the certificate")?;
    files::make_dir(out)?;
    let paths = Certificate::node(out, region);
    paths.write(&cert.pem(), &key)?;
    Ok(paths)
}

/// What a certificate repeats of its authority, its name and the use of its key, follows from this.
fn authority(days: u32) -> anyhow::Result<CertificateParams> {
    let mut params = params("Whimbrel cluster CA", days, Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn new_key() -> anyhow::Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ED25519).context("cannot make a key pair")
}

fn params(name: &str, days: u32, dns: Vec<String>) -> anyhow::Result<CertificateParams> {
    anyhow::ensure!(
        (1..=CA_DAYS).contains(&days),
        "a validity of {days} days is outside 1..={CA_DAYS}"
    );
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .context("the wall clock is before 1970")?;
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::new(dns).context("not a DNS name")?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = epoch + now.saturating_sub(BACKDATE);
    params.not_after = epoch + now + Duration::from_secs(u64::from(days) * 24 * 60 * 60);
    Ok(params)
}
