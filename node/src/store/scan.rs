//! Reading a whole range, page by page.

use super::{Key, Page, RangeOptions, StoreError, Transaction, Value, key_after};

impl Transaction {
    /// All rows of `begin..end` up to `opts.limit`, however many pages the engine makes of them.
    ///
    /// # Errors
    ///
    /// Those of [`Transaction::range`].
    pub async fn range_all(
        &self,
        begin: &[u8],
        end: &[u8],
        opts: RangeOptions,
    ) -> Result<Vec<(Key, Value)>, StoreError> {
        let (mut begin, mut end) = (begin.to_vec(), end.to_vec());
        let mut rows: Vec<(Key, Value)> = Vec::new();
        loop {
            let rest = RangeOptions {
                limit: opts.limit - rows.len(),
                ..opts
            };
            let Page { rows: page, more } = self.range(&begin, &end, rest).await?;
            let last = page.last().map(|(key, _)| key.clone());
            rows.extend(page);
            match last {
                Some(last) if more && rows.len() < opts.limit => {
                    if opts.reverse {
                        end = last.to_vec();
                    } else {
                        begin = key_after(&last);
                    }
                }
                _ => return Ok(rows),
            }
        }
    }
}
