use super::*;
use crate::crdt::conversation::{Conversation, Creation};
use crate::op::ConversationKind;

#[derive(Clone, Debug)]
pub(super) struct Write {
    position: Position,
    /// Absent: a change.
    creation: Option<Creation>,
    title: Option<String>,
    topic: Option<String>,
}

impl Row for Conversation {
    type Op = Write;

    fn take(&mut self, op: &Write) {
        let (title, topic) = (op.title.clone(), op.topic.clone());
        match op.creation.clone() {
            Some(creation) => self.created(creation, title, topic),
            None => self.changed(op.position, title, topic),
        }
    }

    fn join(&mut self, other: Self) {
        self.join(other);
    }

    fn stored(&self) -> Self {
        Self::decode(&self.encode()).unwrap()
    }
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let kind = prop_oneof![
        Just(ConversationKind::Direct),
        Just(ConversationKind::Group),
        Just(ConversationKind::Channel),
    ];
    let field = || prop::option::of("[ab]{0,2}");
    let content = (prop::option::of((kind, "[xy]")), field(), field());
    by_position(content, 0..=OPS_MAX).prop_map(|ops| {
        let write = |(position, (creation, title, topic))| Write {
            position,
            creation: Option::map(creation, |(kind, creator)| Creation {
                kind,
                creator,
                position,
            }),
            title,
            topic,
        };
        ops.into_iter().map(write).collect()
    })
}

/// The last change that names the field, or else what the last creation said.
fn last<'a>(ops: &[&'a Write], field: fn(&Write) -> Option<&str>) -> Option<&'a str> {
    let of = |wanted: fn(&Write, Option<&str>) -> bool| {
        let writes = ops.iter().filter(|op| wanted(op, field(op)));
        writes.max_by_key(|op| op.position).copied()
    };
    of(|op, value| op.creation.is_none() && value.is_some())
        .or_else(|| of(|op, _| op.creation.is_some()))
        .and_then(field)
}

proptest! {
    #[test]
    fn the_first_creation_and_the_last_change_win(
        ops in writes(),
        deliveries in deliveries(),
    ) {
        check_laws::<Conversation>(&ops, &deliveries, |row, ops| {
            let creations = ops.iter().filter_map(|op| op.creation.as_ref());
            let first = creations.min_by_key(|creation| creation.position);
            prop_assert_eq!(row.creation.as_ref(), first);
            prop_assert_eq!(row.title(), last(ops, |op| op.title.as_deref()));
            prop_assert_eq!(row.topic(), last(ops, |op| op.topic.as_deref()));
            Ok(())
        })?;
    }

    #[test]
    fn the_count_of_members_is_kept_by_a_join_and_by_storing(mine: u32, other: u32) {
        let with = |members| Conversation { members, ..Conversation::default() };
        prop_assert_eq!(with(mine).joined(&with(other)).members, mine);
    }

    /// Whoever writes above `last_change` is seen, however absurd the stamps before it.
    #[test]
    fn a_change_above_the_last_one_is_seen(ops in writes()) {
        let mut row = Conversation::of(&ops);
        let above = row.last_change().map_or(0, |last| last.hlc().0 + 1);
        let position = Position::new(Hlc(above), RegionId(0), NodeId(0));
        row.changed(position, Some("new".into()), None);
        prop_assert_eq!(row.title(), Some("new"));
    }
}
