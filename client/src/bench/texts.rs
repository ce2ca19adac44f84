//! What is posted: texts of 80 to 200 bytes, real ones where an export is given.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::api::PostMessage;
use crate::client::to_json;

/// Shortest and longest text, in bytes.
const TEXT_BYTES: std::ops::RangeInclusive<usize> = 80..=200;

/// Deciles of the 13,522 texts of this length in the Gitter export that the project tests with,
/// in bytes.
const DECILES: [usize; 11] = [80, 84, 91, 97, 105, 113, 123, 135, 151, 172, 200];

/// How many texts are made up. Enough that no cache sees the same one soon again.
const GENERATED: usize = 4096;

const WORDS: [&str; 32] = [
    "the", "a", "and", "we", "it", "is", "to", "of", "over", "under", "bird", "wader", "curlew",
    "whimbrel", "storm", "ocean", "region", "message", "arrives", "flies", "late", "early", "when",
    "nobody", "listens", "coast", "wind", "through", "again", "thanks", "right", "tomorrow",
];

/// Texts in the order in which they are posted.
#[derive(Clone, Debug)]
pub struct Texts {
    all: Vec<String>,
    source: &'static str,
}

impl Texts {
    /// Those of `texts` that have a fitting length, in an order that `seed` chooses; `None` where
    /// none fits.
    pub fn chosen(texts: impl IntoIterator<Item = String>, seed: u64) -> Option<Self> {
        let fits = |text: &String| TEXT_BYTES.contains(&text.len()) && !text.trim().is_empty();
        let mut all: Vec<String> = texts.into_iter().filter(fits).collect();
        all.shuffle(&mut StdRng::seed_from_u64(seed));
        (!all.is_empty()).then_some(Self {
            all,
            source: "export",
        })
    }

    /// Made-up texts whose lengths are distributed as those of real ones.
    pub fn generated(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let all = (0..GENERATED).map(|_| generate(&mut random)).collect();
        Self {
            all,
            source: "generated",
        }
    }

    /// `export` or `generated`.
    pub fn source(&self) -> &'static str {
        self.source
    }

    /// How many different ones there are; after the last the first comes again.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Their mean length in bytes.
    pub fn mean_bytes(&self) -> f64 {
        self.all.iter().map(String::len).sum::<usize>() as f64 / self.all.len() as f64
    }

    /// The text of message number `n`.
    pub(super) fn nth(&self, n: u64) -> &str {
        &self.all[index(n, self.all.len())]
    }

    /// A request body for each text, made once.
    pub(super) fn bodies(&self) -> Bodies {
        let body = |text: &String| {
            let text = text.clone();
            to_json(&PostMessage {
                text,
                ..PostMessage::default()
            })
            .into()
        };
        Bodies(self.all.iter().map(body).collect())
    }
}

/// Serialized posts.
#[derive(Debug)]
pub(super) struct Bodies(Vec<Bytes>);

impl Bodies {
    /// The body of message number `n`.
    pub(super) fn nth(&self, n: u64) -> Bytes {
        self.0[index(n, self.0.len())].clone()
    }
}

fn index(n: u64, len: usize) -> usize {
    // The remainder is below `len`, which is a `usize`.
    (n % len as u64) as usize
}

fn generate(random: &mut StdRng) -> String {
    // The inverse of the distribution, straight between its deciles.
    let tenth = random.random_range(0..DECILES.len() - 1);
    let length = random.random_range(DECILES[tenth]..=DECILES[tenth + 1]);
    let mut text = String::with_capacity(length + 16);
    while text.len() < length {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(WORDS[random.random_range(0..WORDS.len())]);
    }
    text.truncate(length);
    if text.ends_with(' ') {
        text.pop();
        text.push('.');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides() {
        let export = || (0..40).map(|i| format!("{i:>100}"));
        let texts = |seed| Texts::chosen(export(), seed).unwrap();
        assert_eq!(texts(1).all, texts(1).all);
        assert_ne!(texts(1).all, texts(2).all);
        assert_eq!(Texts::generated(1).all, Texts::generated(1).all);
        assert_ne!(Texts::generated(1).all, Texts::generated(2).all);
    }

    #[test]
    fn only_fitting_texts_are_chosen() {
        let sized = [79, 80, 200, 201].map(|bytes| "x".repeat(bytes));
        let texts = Texts::chosen(sized.into_iter().chain([" ".repeat(100)]), 7).unwrap();
        let mut bytes: Vec<usize> = texts.all.iter().map(String::len).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, [80, 200]);
        assert_eq!(texts.mean_bytes(), 140.0);
        assert!(Texts::chosen(["short".to_owned()], 7).is_none());
    }

    #[test]
    fn generated_lengths_are_those_of_real_texts() {
        let texts = Texts::generated(3);
        let mut bytes: Vec<usize> = texts.all.iter().map(String::len).collect();
        bytes.sort_unstable();
        for (tenth, expected) in DECILES.iter().enumerate() {
            let found = bytes[(tenth * bytes.len() / 10).min(bytes.len() - 1)];
            assert!(found.abs_diff(*expected) <= 6, "{tenth}: {found}");
        }
    }

    #[test]
    fn bodies_say_what_the_texts_say() {
        let texts = Texts::generated(3);
        let bodies = texts.bodies();
        for n in [0, 1, 4095, 4096, u64::MAX] {
            let body: PostMessage = serde_json::from_slice(&bodies.nth(n)).unwrap();
            assert_eq!(body.text, texts.nth(n));
        }
        assert_eq!(bodies.nth(4096), bodies.nth(0));
    }
}
