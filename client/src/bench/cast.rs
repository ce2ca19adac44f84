//! Who talks where: users with tokens, and conversations that they are members of.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hyper::header::HeaderValue;

use super::{Region, Target};
use crate::api::{ConversationKind, CreateConversation};
use crate::token::{Claims, SCOPE_SERVICE};
use crate::{Client, Error, RetryPolicy};

/// How long the tokens of a run hold.
const TOKEN_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// Conversations that are made at once.
const CREATED_AT_ONCE: usize = 16;

/// The users and conversations of one run. Names and idempotency keys carry the run's random name,
/// so that no run finds what an earlier one left, and no post is a replay of an earlier one.
pub(super) struct Cast {
    pub(super) run: String,
    pub(super) users: Vec<User>,
    /// Ids.
    pub(super) conversations: Vec<String>,
}

pub(super) struct User {
    /// `Authorization` of their requests.
    pub(super) bearer: HeaderValue,
}

impl Cast {
    /// Makes them in a region.
    pub(super) async fn make(
        target: &Target,
        region: &Region,
        users: usize,
        conversations: usize,
    ) -> Result<Self, Error> {
        let run = format!("{:016x}", rand::random::<u64>());
        let name = |user| user_name(&run, user);
        let client = observer(target, region, &run)?;
        let ids: Vec<String> = stream::iter(0..conversations)
            .map(|conversation| {
                let body = CreateConversation {
                    kind: ConversationKind::Channel,
                    title: Some(format!("bench {run} #{conversation}")),
                    topic: None,
                    members: members(conversation, users, conversations)
                        .map(name)
                        .collect(),
                };
                let client = client.clone();
                async move { Ok::<_, Error>(client.create(&body).await?.value.id) }
            })
            .buffered(CREATED_AT_ONCE)
            .try_collect()
            .await?;
        let users = (0..users)
            .map(|user| {
                let bearer = bearer(target, &name(user))?;
                Ok(User { bearer })
            })
            .collect::<Result<_, Error>>()?;
        Ok(Self {
            run,
            users,
            conversations: ids,
        })
    }

    /// Of the user with this number.
    pub(super) fn name(&self, user: usize) -> String {
        user_name(&self.run, user)
    }

    /// User and conversation of message number `n`: all users take turns, so that none comes near
    /// their quota before all do, and so do the conversations.
    pub(super) fn place(&self, n: u64) -> (usize, usize) {
        place(n, self.users.len(), self.conversations.len())
    }
}

fn user_name(run: &str, user: usize) -> String {
    format!("bench-{run}-{user}")
}

fn observer_name(run: &str) -> String {
    format!("bench-{run}")
}

/// The owner of all conversations of a run in a region: sees everything, has no quota.
pub(super) fn observer(target: &Target, region: &Region, run: &str) -> Result<Client, Error> {
    client(target, region, &observer_name(run), Some(SCOPE_SERVICE))
}

/// `Authorization` of the owner's requests.
pub(super) fn observer_bearer(target: &Target, run: &str) -> Result<HeaderValue, Error> {
    authorization(&token(target, &observer_name(run), Some(SCOPE_SERVICE))?)
}

/// `Authorization` of a user's requests.
pub(super) fn bearer(target: &Target, user: &str) -> Result<HeaderValue, Error> {
    authorization(&token(target, user, None)?)
}

fn authorization(token: &str) -> Result<HeaderValue, Error> {
    HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| Error::config("the token holds characters that no token has"))
}

/// A user in one region, whose calls are made once.
pub(super) fn client(
    target: &Target,
    region: &Region,
    user: &str,
    scope: Option<&str>,
) -> Result<Client, Error> {
    Client::builder()
        .region(&region.name, &region.url)
        .token(token(target, user, scope)?)
        .timeout(Duration::from_secs(30))
        .retry(RetryPolicy::NEVER)
        // This region is measured; the others are not to be asked.
        .discover(false)
        .session(false)
        .build()
}

fn token(target: &Target, user: &str, scope: Option<&str>) -> Result<String, Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_err(|_| Error::config("the clock of this machine stands before 1970"))?;
    let claims = Claims {
        sub: user.to_owned(),
        exp: (now + TOKEN_TTL).as_secs(),
        scope: scope.map(str::to_owned),
    };
    let signed = target.key.sign(&claims);
    signed.map_err(|error| Error::config(format!("cannot sign a token: {error}")))
}

/// Members of a conversation. Each user is a member where they post, so that neither a thousand
/// conversations nor a thousand users make a million memberships.
fn members(conversation: usize, users: usize, conversations: usize) -> impl Iterator<Item = usize> {
    (conversation % users..users).step_by(conversations)
}

fn place(n: u64, users: usize, conversations: usize) -> (usize, usize) {
    // The remainders are below what is a `usize`.
    let user = (n % users as u64) as usize;
    let round = n / users as u64;
    if conversations <= users {
        return (user, user % conversations);
    }
    let theirs = (conversations - user).div_ceil(users);
    let nth = (round % theirs as u64) as usize;
    (user, user + nth * users)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Everyone posts where they are a member, and all evenly.
    fn check(users: usize, conversations: usize) {
        let all: Vec<Vec<usize>> = (0..conversations)
            .map(|conversation| members(conversation, users, conversations).collect())
            .collect();
        let rounds = conversations.div_ceil(users);
        let mut posts_of_user = BTreeMap::<usize, usize>::new();
        let mut posts_in = BTreeMap::<usize, usize>::new();
        for n in 0..(users * rounds * 6) as u64 {
            let (user, conversation) = place(n, users, conversations);
            assert!(
                all[conversation].contains(&user),
                "{user} in {conversation}"
            );
            *posts_of_user.entry(user).or_default() += 1;
            *posts_in.entry(conversation).or_default() += 1;
        }
        assert_eq!(posts_of_user.len(), users);
        assert!(posts_of_user.values().all(|&posts| posts == rounds * 6));
        assert_eq!(posts_in.len(), conversations);
        let (least, most) = (posts_in.values().min(), posts_in.values().max());
        assert!(most.unwrap() <= &(least.unwrap() * 2), "{posts_in:?}");
        let memberships: usize = all.iter().map(Vec::len).sum();
        assert_eq!(memberships, users.max(conversations));
    }

    #[test]
    fn places_are_even() {
        for (users, conversations) in [
            (200, 16),
            (200, 200),
            (200, 1),
            (200, 1000),
            (7, 20),
            (1, 1),
        ] {
            check(users, conversations);
        }
    }
}
