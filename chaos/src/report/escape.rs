//! Text that becomes part of XML or HTML.

use std::fmt;

/// Shown, it can stand in text and in attributes. What XML cannot say at all becomes `?`.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' | '\t' => f.write_char(c)?,
                c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => f.write_char('?')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_its_place() {
        let check = |text: &str, expected: &str| assert_eq!(Escaped(text).to_string(), expected);
        check(
            "a < b & c > 'd' \"e\"",
            "a &lt; b &amp; c &gt; &#39;d&#39; &quot;e&quot;",
        );
        check("]]>\u{1b}[31m\u{0}\nnext", "]]&gt;?[31m?\nnext");
        check("👍", "👍");
    }
}
