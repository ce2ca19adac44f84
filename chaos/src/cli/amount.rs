//! Times, shares and rates as one types them, and as they are shown.

use std::fmt;

use jiff::SignedDuration;

/// Bits per second; without a number there is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate(pub(super) Option<u64>);

/// `80ms`, `1.5s`.
pub(super) fn milliseconds(text: &str) -> Result<u32, String> {
    let parsed: Result<SignedDuration, _> = text.parse();
    parsed
        .ok()
        .and_then(|time| u32::try_from(time.as_millis()).ok())
        .ok_or_else(|| "a time is written such as 80ms or 1.5s".to_owned())
}

/// `5%`, `0.1%`.
pub(super) fn share(text: &str) -> Result<f64, String> {
    text.strip_suffix('%')
        .and_then(|number| number.parse::<f64>().ok())
        .filter(|percent| (0.0..=100.0).contains(percent))
        .map(|percent| percent / 100.0)
        .ok_or_else(|| "a share is written such as 5%, from 0% to 100%".to_owned())
}

const UNITS: [(&str, u64); 3] = [
    ("gbit", 1_000_000_000),
    ("mbit", 1_000_000),
    ("kbit", 1_000),
];

/// `500kbit`, `1mbit`, `unlimited`; in a second.
pub(super) fn rate(text: &str) -> Result<Rate, String> {
    if text == "unlimited" {
        return Ok(Rate(None));
    }
    UNITS
        .iter()
        .find_map(|(unit, bits)| {
            let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
            number.checked_mul(*bits)
        })
        .map(|bits| Rate(Some(bits)))
        .ok_or_else(|| {
            "a rate is written such as 500kbit, 1mbit or 1gbit, or `unlimited`".to_owned()
        })
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(rate) = self.0 else {
            return f.write_str("unlimited");
        };
        match UNITS.iter().find(|(_, bits)| rate % bits == 0) {
            Some((unit, bits)) => write!(f, "{}{unit}", rate / bits),
            None => write!(f, "{rate}bit"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_with_their_units() {
        assert_eq!(milliseconds("80ms"), Ok(80));
        assert_eq!(milliseconds("1.5s"), Ok(1_500));
        assert_eq!(share("5%"), Ok(0.05));
        assert_eq!(share("0.5%"), Ok(0.005));
        assert_eq!(rate("1mbit"), Ok(Rate(Some(1_000_000))));
        assert_eq!(rate("unlimited"), Ok(Rate(None)));
        for text in ["80", "-1ms", "ms", "", "99999999h"] {
            assert!(milliseconds(text).is_err(), "{text}");
        }
        for text in ["5", "101%", "-1%", "NaN%", "%"] {
            assert!(share(text).is_err(), "{text}");
        }
        for text in ["1", "1mb", "-1mbit", "99999999999999gbit"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_are_shown_as_one_types_them() {
        for text in ["1mbit", "1500kbit", "2gbit", "unlimited"] {
            assert_eq!(rate(text).unwrap().to_string(), text);
        }
    }
}
