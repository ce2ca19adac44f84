use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::crdt::message::{Edited, Message, Post, Posting};
use crate::crdt::reaction::Reaction;
use crate::id::{ChangeHash, MessageId};

const TEXT: &str = "as it was written";
const EDITED: &str = "as it was edited";

pub(super) fn post() -> Post {
    Post {
        sender: "ada".into(),
        text: TEXT.into(),
        reply_to: Some(MessageId::from_bytes([3; 16])),
        sent_at_unix_ms: Some(-1),
    }
}

pub(super) fn edited() -> Edited {
    Edited {
        text: EDITED.into(),
        heads: vec![ChangeHash::from_bytes([5; 32])],
        edits: 1,
    }
}

#[derive(Clone, Debug)]
pub(super) enum Write {
    Post(Place, Position),
    Redact,
}

impl Row for Message {
    type Op = Write;

    fn take(&mut self, op: &Write) {
        match op {
            Write::Post(place, position) => {
                self.post(*place, *position, post());
            }
            Write::Redact => self.redact(),
        }
    }

    fn join(&mut self, other: Self) {
        self.join(other);
    }

    fn stored(&self) -> Self {
        Self::decode(&self.encode().bytes).unwrap()
    }
}

pub(super) fn places() -> impl Strategy<Value = BTreeMap<Place, Position>> {
    prop::collection::btree_map(place(), position(), 0..OPS_MAX)
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    (places(), any::<bool>())
        .prop_map(|(places, redacted)| {
            let posts = places.into_iter().map(|(at, pos)| Write::Post(at, pos));
            posts
                .chain(redacted.then_some(Write::Redact))
                .collect::<Vec<_>>()
        })
        .prop_shuffle()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

/// All that may happen to a row, also what is derived.
#[derive(Clone, Debug)]
enum Event {
    Post(Place, Position),
    Edit,
    React(bool),
    JoinPosted(Place, Position),
    JoinEdited,
    Store,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (place(), position()).prop_map(|(at, pos)| Event::Post(at, pos)),
        Just(Event::Edit),
        any::<bool>().prop_map(Event::React),
        (place(), position()).prop_map(|(at, pos)| Event::JoinPosted(at, pos)),
        Just(Event::JoinEdited),
        Just(Event::Store),
    ]
}

fn happen(row: &mut Message, event: &Event) {
    match event {
        Event::Post(place, position) => {
            row.post(*place, *position, post());
        }
        Event::Edit => row.edit(edited()),
        Event::React(present) => row.count_reaction("+1", *present),
        Event::JoinPosted(place, position) => {
            let mut other = Message::default();
            other.post(*place, *position, post());
            row.join(other);
        }
        Event::JoinEdited => {
            let mut other = Message::default();
            other.edit(edited());
            row.join(other);
        }
        Event::Store => *row = row.stored(),
    }
}

proptest! {
    #[test]
    fn places_add_up_and_the_smallest_position_and_a_redaction_win(
        ops in writes(),
        deliveries in deliveries(),
    ) {
        check_laws::<Message>(&ops, &deliveries, |row, ops| {
            let posts = ops.iter().filter_map(|op| match op {
                Write::Post(place, position) => Some((*place, *position)),
                Write::Redact => None,
            });
            let places: BTreeMap<_, _> = posts.collect();
            let redacted = ops.iter().any(|op| matches!(op, Write::Redact));
            let posted = !places.is_empty();
            prop_assert_eq!(row.position(), places.values().min().copied());
            prop_assert_eq!(&row.places, &places);
            prop_assert_eq!(row.redacted, redacted);
            prop_assert_eq!(row.text(), (posted && !redacted).then_some(TEXT));
            let text = if redacted { "" } else { TEXT };
            let expected = posted.then(|| Post { text: text.into(), ..post() });
            prop_assert_eq!(&row.post, &expected);
            Ok(())
        })?;
    }

    #[test]
    fn a_post_tells_whether_the_message_is_new_or_moved(
        posts in prop::collection::vec((place(), position()), 1..OPS_MAX),
    ) {
        let mut row = Message::default();
        let mut known = BTreeMap::new();
        for (place, position) in posts {
            // A place has one position.
            let position = *known.entry(place).or_insert(position);
            let before = row.position();
            let posting = row.post(place, position, post());
            let expected = match (before, row.position()) {
                (None, _) => Posting::New,
                (Some(from), now) if now != Some(from) => Posting::Moved { from },
                _ => Posting::Known,
            };
            prop_assert_eq!(posting, expected);
        }
    }

    #[test]
    fn nothing_brings_a_redacted_text_back(
        before in prop::collection::vec(event(), 0..8),
        by_join: bool,
        after in prop::collection::vec(event(), 0..8),
    ) {
        let mut row = Message::default();
        for event in &before {
            happen(&mut row, event);
        }
        if by_join {
            let mut other = Message::default();
            other.redact();
            row.join(other);
        } else {
            row.redact();
        }
        for event in &after {
            happen(&mut row, event);
        }
        prop_assert_eq!(row.text(), None);
        for bytes in [row.encode().bytes, row.encode_without_places()] {
            prop_assert!(!contains(&bytes, TEXT) && !contains(&bytes, EDITED));
        }
    }

    #[test]
    fn what_is_shown_survives_storing(events in prop::collection::vec(event(), 0..12)) {
        let mut row = Message::default();
        for event in &events {
            happen(&mut row, event);
        }
        prop_assert_eq!(&row.stored(), &row);
        let shown = Message::decode(&row.encode_without_places()).unwrap();
        prop_assert_eq!(shown.places.len(), 0);
        prop_assert_eq!(Message { places: row.places.clone(), ..shown }, row);
    }

    /// Counts go up and down with the rows of the reactions, whichever order those arrive in.
    #[test]
    fn counted_reactions_are_the_reactions_that_stand(
        ops in by_position(("[ab]", "[xyz]", any::<bool>()), 0..=OPS_MAX),
        deliveries in deliveries(),
    ) {
        let mut arriving: Vec<(u16, usize)> = Vec::new();
        for (op, delivery) in deliveries.iter().take(ops.len()).enumerate() {
            arriving.extend(delivery.arrivals.iter().map(|at| (*at, op)));
        }
        arriving.sort_unstable();

        let mut message = Message::default();
        let mut rows = BTreeMap::<_, Option<Reaction>>::new();
        for (_, op) in arriving {
            let (position, (emoji, user, present)) = &ops[op];
            let row = rows.entry((emoji, user)).or_default();
            let was_present = row.as_ref().is_some_and(|row| row.present);
            Reaction::merge(row, Reaction { present: *present, position: *position });
            let is_present = row.as_ref().is_some_and(|row| row.present);
            if was_present != is_present {
                message.count_reaction(emoji, is_present);
            }
        }

        let mut standing = BTreeSet::new();
        let mut in_order = ops.clone();
        in_order.sort_by_key(|(position, _)| *position);
        for (_, (emoji, user, present)) in in_order {
            if present {
                standing.insert((emoji, user));
            } else {
                standing.remove(&(emoji, user));
            }
        }
        let mut counts = BTreeMap::<String, u32>::new();
        for (emoji, _) in standing {
            *counts.entry(emoji).or_default() += 1;
        }
        prop_assert_eq!(message.reactions, counts);
    }
}
