//! Reading keys, signing and verifying.

use std::path::{Path, PathBuf};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use serde::Deserialize;

use super::{Claims, install_provider};

/// What precedes the 32 bytes of the key in the SPKI form of every Ed25519 public key (RFC 8410).
const ED25519_SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// Why a key or a token cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read the key file {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not a private key that signs tokens.
    #[error(
        "not an Ed25519 private key in PKCS#8 PEM (`-----BEGIN PRIVATE KEY-----`); \
         `whimbrel-node keys` makes one"
    )]
    Private,
    /// Not a public key, or set of keys, that verifies tokens.
    #[error(
        "neither an Ed25519 public key in PEM (`-----BEGIN PUBLIC KEY-----`) nor a JWKS with one"
    )]
    Public,
    /// Signing or verifying failed.
    #[error("the token cannot be signed or does not hold")]
    Token(#[source] jsonwebtoken::errors::Error),
}

/// Signs tokens.
pub struct SigningKey {
    encoding: EncodingKey,
    public: VerifyingKey,
}

impl SigningKey {
    /// From a file with a private key in PKCS#8 PEM.
    pub fn from_pem_file(path: &Path) -> Result<Self, KeyError> {
        let pem = std::fs::read(path).map_err(|source| KeyError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::from_pem(&pem)
    }

    /// From a private key in PKCS#8 PEM.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        install_provider();
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| KeyError::Private)?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
            .map_err(|_| KeyError::Private)?;
        Ok(Self {
            encoding: EncodingKey::from_ed_der(der.secret_pkcs8_der()),
            public: VerifyingKey::from_bytes(pair.public_key().as_ref(), None)?,
        })
    }

    /// A token that says `claims`.
    pub fn sign(&self, claims: &Claims) -> Result<String, KeyError> {
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), claims, &self.encoding)
            .map_err(KeyError::Token)
    }

    /// The public half.
    pub fn public(&self) -> &VerifyingKey {
        &self.public
    }
}

/// Verifies tokens.
#[derive(Clone)]
pub struct VerifyingKey {
    /// From a JWKS: matched with the token's `kid` where it has one.
    pub id: Option<String>,
    /// The 32 bytes of the key, e.g. to notice that a re-read file holds the same.
    pub bytes: [u8; 32],
    /// For [`jsonwebtoken::decode`].
    pub decoding: DecodingKey,
}

impl VerifyingKey {
    /// From the 32 bytes of an Ed25519 public key.
    pub fn from_bytes(bytes: &[u8], id: Option<String>) -> Result<Self, KeyError> {
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| KeyError::Public)?;
        Ok(Self {
            id,
            bytes,
            decoding: DecodingKey::from_ed_der(&bytes),
        })
    }
}

/// Reads public keys: any number of PEM blocks, or a JWKS. Keys of a JWKS that are not Ed25519, or
/// not for signatures, are passed over.
pub fn public_keys(content: &[u8]) -> Result<Vec<VerifyingKey>, KeyError> {
    let keys = if content.trim_ascii_start().starts_with(b"{") {
        from_jwks(content)?
    } else {
        from_pem(content)?
    };
    if keys.is_empty() {
        return Err(KeyError::Public);
    }
    Ok(keys)
}

/// The claims of a token that one of `keys` has signed and that has not expired, with no leeway.
pub fn verify(token: &str, keys: &[VerifyingKey]) -> Result<Claims, KeyError> {
    install_provider();
    let header = jsonwebtoken::decode_header(token).map_err(KeyError::Token)?;
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.leeway = 0;
    validation.validate_nbf = true;
    validation.set_required_spec_claims(&["exp", "sub"]);
    let mut refused = jsonwebtoken::errors::ErrorKind::InvalidSignature.into();
    for key in keys {
        if let (Some(given), Some(own)) = (&header.kid, &key.id)
            && given != own
        {
            continue;
        }
        match jsonwebtoken::decode::<Claims>(token, &key.decoding, &validation) {
            Ok(token) => return Ok(token.claims),
            Err(error) => refused = error,
        }
    }
    Err(KeyError::Token(refused))
}

fn from_pem(content: &[u8]) -> Result<Vec<VerifyingKey>, KeyError> {
    SubjectPublicKeyInfoDer::pem_slice_iter(content)
        .map(|der| {
            let der = der.map_err(|_| KeyError::Public)?;
            let key = der
                .strip_prefix(&ED25519_SPKI_PREFIX)
                .ok_or(KeyError::Public)?;
            VerifyingKey::from_bytes(key, None)
        })
        .collect()
}

fn from_jwks(content: &[u8]) -> Result<Vec<VerifyingKey>, KeyError> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Key>,
    }
    #[derive(Deserialize)]
    struct Key {
        kid: Option<String>,
        crv: Option<String>,
        x: Option<String>,
        #[serde(rename = "use")]
        usage: Option<String>,
    }
    let set: Set = serde_json::from_slice(content).map_err(|_| KeyError::Public)?;
    set.keys
        .into_iter()
        .filter(|key| key.crv.as_deref() == Some("Ed25519"))
        .filter(|key| key.usage.as_deref().is_none_or(|usage| usage == "sig"))
        .map(|key| {
            let x = key.x.ok_or(KeyError::Public)?;
            let decoding = DecodingKey::from_ed_components(&x).map_err(|_| KeyError::Public)?;
            let bytes = decoding.try_get_as_bytes().map_err(|_| KeyError::Public)?;
            VerifyingKey::from_bytes(bytes, key.kid)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;

    use super::*;

    fn pem(label: &str, der: &[u8]) -> String {
        use std::fmt::Write as _;
        // Base64 for a test is less than a dependency.
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for chunk in der.chunks(3) {
            let bits = chunk
                .iter()
                .fold(0u32, |bits, byte| bits << 8 | u32::from(*byte))
                << (8 * (3 - chunk.len()));
            for i in 0..4 {
                text.push(if i <= chunk.len() {
                    char::from(ALPHABET[(bits >> (18 - 6 * i)) as usize & 63])
                } else {
                    '='
                });
            }
        }
        let mut out = String::new();
        write!(
            out,
            "-----BEGIN {label}-----\n{text}\n-----END {label}-----\n"
        )
        .unwrap();
        out
    }

    fn fresh() -> SigningKey {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        SigningKey::from_pem(pem("PRIVATE KEY", pkcs8.as_ref()).as_bytes()).unwrap()
    }

    fn claims(exp: u64) -> Claims {
        Claims {
            sub: "ana".to_owned(),
            exp,
            scope: Some("admin service".to_owned()),
        }
    }

    const FUTURE: u64 = 4_000_000_000;

    #[test]
    fn what_is_signed_verifies_with_the_public_pem() {
        let key = fresh();
        let spki = [&ED25519_SPKI_PREFIX[..], &key.public().bytes].concat();
        let keys = public_keys(pem("PUBLIC KEY", &spki).as_bytes()).unwrap();
        let token = key.sign(&claims(FUTURE)).unwrap();
        assert_eq!(verify(&token, &keys).unwrap(), claims(FUTURE));
        assert!(claims(FUTURE).has_scope("service"));
        assert!(!claims(FUTURE).has_scope("serv"));
    }

    #[test]
    fn a_jwks_holds_several_keys() {
        // RFC 8037, appendix A.2.
        let jwks = br#"{"keys":[
            {"kty":"RSA","n":"AQAB","e":"AQAB"},
            {"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
        let keys = public_keys(jwks).unwrap();
        assert_eq!(keys.len(), 1);
        assert_eq!(keys[0].id.as_deref(), Some("a"));
        assert_eq!(keys[0].bytes[..3], [0xd7, 0x5a, 0x98]);
    }

    #[test]
    fn other_keys_old_tokens_and_other_algorithms_are_refused() {
        let (key, other) = (fresh(), fresh());
        let keys = [key.public().clone()];
        assert!(verify(&other.sign(&claims(FUTURE)).unwrap(), &keys).is_err());
        assert!(verify(&key.sign(&claims(1_000_000_000)).unwrap(), &keys).is_err());
        // {"alg":"none"} and {"alg":"HS256"} over {"sub":"ana","exp":4000000000}
        for head in ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJIUzI1NiJ9"] {
            let token = format!("{head}.eyJzdWIiOiJhbmEiLCJleHAiOjQwMDAwMDAwMDB9.AAAA");
            assert!(verify(&token, &keys).is_err());
        }
        assert!(verify("", &keys).is_err());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert!(public_keys(b"").is_err());
        assert!(public_keys(b"{\"keys\":[]}").is_err());
        assert!(public_keys(pem("PUBLIC KEY", &[0x30, 0]).as_bytes()).is_err());
        assert!(SigningKey::from_pem(b"hello").is_err());
        assert!(SigningKey::from_pem(pem("PRIVATE KEY", &[0x30, 0]).as_bytes()).is_err());
    }
}
