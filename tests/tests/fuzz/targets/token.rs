//! Tokens of users, and files with public keys.

use std::sync::LazyLock;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use ring::signature::Ed25519KeyPair;
use whimbrel_client::token::{Claims, SigningKey, public_keys, verify};

use super::memory::Bounds;

/// A token of that many bytes at most is looked at.
const TOKEN_BYTES_MAX: usize = 4096;

const BOUNDS: Bounds = Bounds {
    least: 64 * 1024,
    each: 32,
    work: 8,
};

/// The same in every run, so that an input can be replayed.
static KEY: LazyLock<SigningKey> = LazyLock::new(|| {
    // RFC 8410: an Ed25519 private key in PKCS#8, up to its 32 bytes.
    let head = [
        0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20,
    ];
    let der = [&head[..], &[7; 32]].concat();
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).expect("a key");
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        BASE64.encode(&der)
    );
    SigningKey::from_pem(pem.as_bytes()).expect("a key in PEM")
});

fn claims() -> Claims {
    Claims {
        sub: "ada".to_owned(),
        exp: 4_000_000_000,
        scope: Some("service admin".to_owned()),
    }
}

pub(crate) fn run(input: &[u8]) {
    let key = &*KEY;
    let keys = [key.public().clone()];
    let valid = key.sign(&claims()).expect("a token");
    if let Ok(text) = std::str::from_utf8(input)
        && text.len() <= TOKEN_BYTES_MAX
        && let Ok(claims) = BOUNDS.hold(text.len(), || verify(text, &keys))
    {
        // The only one that was signed.
        assert_eq!(text, valid);
        assert_eq!(claims, self::claims());
    }
    // Also with one part of a valid token in its place: what stands behind a signature that fails.
    let parts: Vec<&str> = valid.split('.').collect();
    let own = BASE64URL_NOPAD.encode(input);
    for at in 0..parts.len() {
        let mut parts = parts.clone();
        parts[at] = &own;
        let token = parts.join(".");
        if token != valid && token.len() <= TOKEN_BYTES_MAX {
            let refused = BOUNDS.hold(token.len(), || verify(&token, &keys)).is_err();
            assert!(refused, "{token}");
        }
    }
    let _ = BOUNDS.hold(input.len(), || public_keys(input));
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let key = &*KEY;
    let spki = [
        &[0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0][..],
        &key.public().bytes,
    ]
    .concat();
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        BASE64.encode(&spki)
    );
    let x = BASE64URL_NOPAD.encode(&key.public().bytes);
    let jwks = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"a","x":"{x}"}}]}}"#);
    vec![
        key.sign(&claims()).expect("a token").into_bytes(),
        br#"{"alg":"EdDSA","typ":"JWT"}"#.to_vec(),
        br#"{"alg":"none"}"#.to_vec(),
        br#"{"alg":"EdDSA","kid":"a","jwk":{"kty":"OKP"},"crit":["b64"],"b64":false}"#.to_vec(),
        br#"{"sub":"ada","exp":18446744073709551615,"nbf":-1}"#.to_vec(),
        br#"{"sub":"ada","exp":1e400}"#.to_vec(),
        pem.into_bytes(),
        jwks.into_bytes(),
        vec![b'['; 3000],
    ]
}
