//! `whimbrel token`.

use crate::args::{Global, Token};
use crate::connect::{dev_dir, read_dev, sign};
use crate::output::Out;
use crate::usage;

pub(crate) fn run(global: &Global, args: &Token, out: &mut Out) -> anyhow::Result<()> {
    let Some(user) = &global.user else {
        return Err(usage("for whom is the token? Give `--user NAME`"));
    };
    let key = match (&args.key, dev_dir(global)) {
        (Some(key), _) => key.clone(),
        (None, Some(dir)) => read_dev(&dir)?.token_key,
        (None, None) => {
            return Err(usage(
                "with which key? Give `--dev DIR` of a dev cluster, or `--key FILE`",
            ));
        }
    };
    let scope = (!args.scope.is_empty()).then(|| args.scope.join(" "));
    let token = sign(&key, user, scope.as_deref(), args.ttl)?;
    out.line(&token)?;
    Ok(())
}
