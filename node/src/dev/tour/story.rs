//! The steps of the tour. A check mark stands only behind what was looked at.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use tokio_util::task::AbortOnDropHandle;
use whimbrel_client::api::{
    Conversation, ConversationKind, CreateConversation, Digests, History, Message,
};
use whimbrel_client::token::{Claims, SigningKey};
use whimbrel_replication::relay::{Change, Links, Order};

use super::super::http;
use super::super::layout::Layout;
use super::super::region::Running;
use super::super::shape::Region;
use super::user::{Failed, User};
use super::{listed, wait};

/// Two edits of the first text, and what they merge to.
const FIRST: &str = "Meet at the lighthouse at nine";
const LATER: &str = "Meet at the lighthouse at ten";
const OLDER: &str = "Meet at the old lighthouse at nine";
const MERGED: &str = "Meet at the old lighthouse at ten";
/// What is sent and not answered.
const UNANSWERED: &str = "I bring the telescope";

const TOKEN_TTL: Duration = Duration::from_secs(60 * 60);
const ADMIN_MAX: Duration = Duration::from_secs(10);

/// The state of the story.
pub(super) struct Story<'a> {
    layout: &'a Layout,
    links: &'a Links,
    /// In the order of the layout's regions.
    running: &'a mut Vec<Running>,
    /// One user in each region, in the same order.
    users: Vec<User>,
    steps: u32,
    checks: u32,
}

impl<'a> Story<'a> {
    /// Before the first step: the regions are ready.
    pub(super) fn new(
        layout: &'a Layout,
        links: &'a Links,
        running: &'a mut Vec<Running>,
    ) -> anyhow::Result<Self> {
        let key = SigningKey::from_pem_file(&layout.token_key())?;
        let expiry = Timestamp::now().as_second() + TOKEN_TTL.as_secs().cast_signed();
        let token = key.sign(&Claims {
            sub: "ada".to_owned(),
            exp: expiry.cast_unsigned(),
            scope: None,
        })?;
        let user = |region: &Region| User {
            region: region.name.clone(),
            api: region.first.http_address(),
            token: token.clone(),
        };
        Ok(Self {
            layout,
            links,
            running,
            users: layout.regions.iter().map(user).collect(),
            steps: 0,
            checks: 0,
        })
    }

    /// The whole story; how many checks held.
    pub(super) async fn tell(mut self) -> anyhow::Result<u32> {
        let message = self.one_post_reaches_all().await?;
        self.all_go_on_when_cut_off(&message).await?;
        self.edits_merge(&message).await?;
        let (id, key) = self.a_region_dies_before_it_answers(&message).await?;
        self.the_others_go_on(&message, &id, &key).await?;
        self.the_dead_region_comes_back(&message, &id).await?;
        Ok(self.checks)
    }

    async fn one_post_reaches_all(&mut self) -> anyhow::Result<Message> {
        let [one, others] = [self.name(0), self.names_from(1)];
        self.step(&format!("What {one} takes, {others} show."));
        let conversation = self.users[0]
            .create(&CreateConversation {
                kind: ConversationKind::Group,
                title: Some("The tour".to_owned()),
                topic: None,
                members: vec!["ben".to_owned()],
            })
            .await
            .with_context(|| format!("expected {one} to make a conversation"))?;
        let Conversation { id, .. } = conversation;
        let posted = self.users[0]
            .post(&id, FIRST)
            .await
            .with_context(|| format!("expected {one} to take a post"))?;
        say(&format!("ada posts in {one}: {FIRST}"));
        let since = Instant::now();
        for reader in 1..self.users.len() {
            self.shows(reader, &posted.message, FIRST).await?;
            let ms = since.elapsed().as_millis();
            self.checked(&format!("{} shows it, {ms} ms later", self.name(reader)));
        }
        Ok(posted.message)
    }

    async fn all_go_on_when_cut_off(&mut self, message: &Message) -> anyhow::Result<()> {
        self.step("The lines between all regions are cut. Each goes on alone.");
        self.links.change_all(Change::Cut)?;
        for (editor, text) in [(0, LATER), (1, OLDER)] {
            let region = self.name(editor);
            self.users[editor]
                .edit(message, text)
                .await
                .with_context(|| format!("expected {region}, which is cut off, to take an edit"))?;
            say(&format!("ada edits that message in {region}: {text}"));
        }
        for (reader, text) in [(0, LATER), (1, OLDER)] {
            self.shows(reader, message, text).await?;
            self.checked(&format!("{} shows its own edit", self.name(reader)));
        }
        for reader in 2..self.users.len() {
            self.shows(reader, message, FIRST).await?;
            self.checked(&format!(
                "{} knows of neither and still serves the old text",
                self.name(reader)
            ));
        }
        let lost = wait(
            "datagrams to be lost on the lines that are cut",
            async || {
                let report = self.links.report();
                let lost: u64 = report.iter().map(|l| l.counters.dropped.cut).sum();
                anyhow::ensure!(lost > 0, "none was sent");
                Ok(lost)
            },
        )
        .await?;
        self.checked(&format!("{lost} datagrams were sent, and none got through"));
        Ok(())
    }

    async fn edits_merge(&mut self, message: &Message) -> anyhow::Result<()> {
        self.step("The lines are up again. The two edits merge, the same way everywhere.");
        self.links.change_all(Change::Heal)?;
        for reader in 0..self.users.len() {
            self.shows(reader, message, MERGED).await?;
        }
        self.checked(&format!("all regions show: {MERGED}"));
        let mut histories: Vec<History> = Vec::new();
        for user in &self.users {
            let history = user.history(message).await;
            histories.push(history.with_context(|| "expected the history of the message")?);
        }
        for (user, history) in self.users.iter().zip(&histories) {
            check(&user.region, "the history", history, &histories[0])?;
        }
        let versions = &histories[0].versions;
        let texts: BTreeSet<&str> = versions.iter().map(|v| v.text.as_str()).collect();
        let expected = BTreeSet::from([FIRST, LATER, OLDER]);
        check(&self.name(0), "the versions", &texts, &expected)?;
        self.checked("nothing is lost; its history, the same in all regions:");
        for version in versions {
            say(&format!(
                "    by {} {}  {}",
                version.author, version.at, version.text
            ));
        }
        self.digests_agree().await
    }

    /// The id of the message that was sent, and its key.
    async fn a_region_dies_before_it_answers(
        &mut self,
        about: &Message,
    ) -> anyhow::Result<(String, String)> {
        let one = self.name(0);
        self.step(&format!("{one} dies in the middle of a send."));
        self.links.apply(&Order {
            from: Some(one.clone()),
            to: None,
            one_way: false,
            change: Change::Cut,
        })?;
        let conversation = about.conversation.clone();
        let key = format!("tour-{}", about.id);
        let send = {
            let (user, conversation, key) =
                (self.users[0].clone(), conversation.clone(), key.clone());
            // It asks for a second region's word, which cannot come.
            async move { user.post_once(&conversation, UNANSWERED, &key, 2).await }
        };
        say(&format!(
            "the lines of {one} are cut; ada sends there: {UNANSWERED}"
        ));
        say("she wants an answer once two regions have it (ack=regions:2)");
        let sending = AbortOnDropHandle::new(tokio::spawn(send));
        let expected = format!("{one} to have committed the message");
        let committed = wait(&expected, async || {
            let page = self.users[0].page(&conversation).await?;
            let found = page
                .into_iter()
                .find(|m| m.text.as_deref() == Some(UNANSWERED));
            found.with_context(|| format!("{one} does not show it"))
        })
        .await?;
        check(
            &one,
            "an answer before a second region had it",
            &sending.is_finished(),
            &false,
        )?;
        self.checked(&format!("{one} has committed it and has not answered"));
        let running = self.running.remove(0);
        let pid = running.pid();
        running.kill().await?;
        say(&format!("kill -9 {pid}, which is {one}"));
        match sending.await.context("the send panicked")? {
            Err(Failed::NoAnswer { .. }) => self.checked("the answer never came"),
            Err(answer) => anyhow::bail!("expected no answer to the send, saw: {answer}"),
            Ok(posted) => anyhow::bail!("expected no answer to the send, saw: {posted:?}"),
        }
        Ok((committed.id, key))
    }

    async fn the_others_go_on(
        &mut self,
        about: &Message,
        id: &str,
        key: &str,
    ) -> anyhow::Result<()> {
        let [one, two, three] = [0, 1, 2].map(|region| self.name(region));
        self.step(&format!("{two} and {three} go on without {one}."));
        let conversation = &about.conversation;
        for (writer, reader) in [(1, 2), (2, 1)] {
            let text = format!("{} is still here", self.name(writer));
            let (from, to) = (self.name(writer), self.name(reader));
            let posted = self.users[writer].post(conversation, &text).await;
            let posted =
                posted.with_context(|| format!("expected {from} to take a post without {one}"))?;
            self.shows(reader, &posted.message, &text).await?;
            self.checked(&format!("a post in {from} shows in {to}"));
        }
        let page = self.users[1].page(conversation).await?;
        let known = page.iter().any(|message| message.id == id);
        check(
            &two,
            "knowledge of what died with its answer",
            &known,
            &false,
        )?;
        self.checked(&format!("{two} knows nothing of the send to {one}"));
        say(&format!(
            "ada sends it again, in {two}, with the same Idempotency-Key"
        ));
        let again = self.users[1]
            .post_once(conversation, UNANSWERED, key, 2)
            .await;
        let again = again.with_context(|| format!("expected {two} to take the send again"))?;
        let holders: Vec<&str> = again.acked_by.iter().map(String::as_str).collect();
        check(
            &two,
            "the id of the message",
            &again.message.id.as_str(),
            &id,
        )?;
        self.checked(&format!(
            "{} have it, under the id that {one} had given it",
            listed(&holders)
        ));
        Ok(())
    }

    async fn the_dead_region_comes_back(
        &mut self,
        about: &Message,
        id: &str,
    ) -> anyhow::Result<()> {
        let one = self.name(0);
        self.step(&format!("{one} starts again, from its own disk."));
        self.links.change_all(Change::Heal)?;
        let region = &self.layout.regions[0];
        self.running
            .insert(0, Running::start(self.layout, region, 0)?);
        self.running[0].ready().await?;
        self.layout
            .update_pid(&region.name, 0, self.running[0].pid())?;
        self.checked(&format!("{one} is ready"));
        self.digests_agree().await?;
        let mut pages = Vec::new();
        for user in &self.users {
            let page = user.page(&about.conversation).await?;
            let page: Vec<(String, Option<String>)> = page
                .into_iter()
                .map(|message| (message.id, message.text))
                .collect();
            let ids: Vec<&str> = page
                .iter()
                .filter(|(_, text)| text.as_deref() == Some(UNANSWERED))
                .map(|(id, _)| id.as_str())
                .collect();
            check(
                &user.region,
                "the ids of what was sent twice",
                &ids,
                &vec![id],
            )?;
            pages.push(page);
        }
        self.checked("what was sent twice is there once, in every region, with one id");
        for (user, page) in self.users.iter().zip(&pages) {
            check(&user.region, "the conversation", page, &pages[0])?;
        }
        self.checked("all regions show the same conversation in the same order:");
        for (_, text) in &pages[0] {
            say(&format!("    {}", text.as_deref().unwrap_or_default()));
        }
        Ok(())
    }

    /// Waits until a region shows a message with this text.
    async fn shows(&self, reader: usize, message: &Message, text: &str) -> anyhow::Result<()> {
        let user = &self.users[reader];
        let expected = format!("{} to show \"{text}\"", user.region);
        wait(&expected, async || {
            let seen = user.message(&message.conversation, &message.id).await?;
            anyhow::ensure!(
                seen.text.as_deref() == Some(text),
                "\"{}\"",
                seen.text.unwrap_or_default()
            );
            Ok(())
        })
        .await
    }

    async fn digests_agree(&mut self) -> anyhow::Result<()> {
        let digests = wait("equal digests in all regions", async || {
            let mut all = Vec::new();
            for region in &self.layout.regions {
                let answer =
                    http::get(region.first.admin_address(), "/admin/v1/digests", ADMIN_MAX);
                let digests: Digests = serde_json::from_slice(answer.await?.body())?;
                all.push((&region.name, digests));
            }
            for (name, digests) in &all {
                anyhow::ensure!(
                    digests.digest == all[0].1.digest
                        && digests.conversations == all[0].1.conversations,
                    "{} has {} and {name} has {}",
                    all[0].0,
                    all[0].1.digest,
                    digests.digest
                );
            }
            Ok(all)
        })
        .await?;
        let lines: Vec<String> = digests
            .iter()
            .map(|(name, digests)| format!("    {name:<8} {}", digests.digest))
            .collect();
        self.checked("the digests of all conversations are equal:");
        lines.iter().for_each(|line| say(line));
        Ok(())
    }

    fn name(&self, region: usize) -> String {
        self.users[region].region.clone()
    }

    fn names_from(&self, first: usize) -> String {
        let names: Vec<&str> = self.users[first..]
            .iter()
            .map(|u| u.region.as_str())
            .collect();
        listed(&names)
    }

    fn step(&mut self, what: &str) {
        self.steps += 1;
        println!("\n{}. {what}", self.steps);
    }

    fn checked(&mut self, what: &str) {
        self.checks += 1;
        println!("   ✓ {what}");
    }
}

fn say(what: &str) {
    println!("     {what}");
}

/// What must be so now, without waiting.
fn check<T: PartialEq + Debug>(
    region: &str,
    what: &str,
    seen: &T,
    expected: &T,
) -> anyhow::Result<()> {
    anyhow::ensure!(
        seen == expected,
        "{region}: expected {what} to be {expected:?}, saw {seen:?}"
    );
    Ok(())
}
