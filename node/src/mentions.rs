//! Users whom a text mentions: `@name`, at the start of a word.

/// More names than this in one text are not looked at.
const MENTIONS_MAX: usize = 50;
const NAME_BYTES_MAX: usize = 128;

fn in_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// In order of appearance, each once.
pub fn mentions(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        let starts_word = !in_name(before) && before != '@';
        before = c;
        if c != '@' || !starts_word {
            continue;
        }
        let rest = &text[at + 1..];
        let end = rest.find(|c| !in_name(c)).unwrap_or(rest.len());
        let name = rest[..end].trim_end_matches(['.', '-']);
        if !name.is_empty() && name.len() <= NAME_BYTES_MAX && !found.iter().any(|n| n == name) {
            found.push(name.to_owned());
        }
        if found.len() == MENTIONS_MAX {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::mentions;

    #[test]
    fn names_are_found_and_addresses_are_not() {
        let check = |text: &str, expected: &[&str]| assert_eq!(mentions(text), expected, "{text}");
        check("@ada and @bob, hello @ada.", &["ada", "bob"]);
        check("mail ada@example.com", &[]);
        check("(@zoë) @a.b-c. @ @@x", &["zoë", "a.b-c"]);
        check("@", &[]);
    }
}
