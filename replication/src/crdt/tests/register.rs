use prost::Message as _;

use super::*;
use crate::crdt::reaction::Reaction;
use crate::crdt::register::{Register, Wire};

impl Row for Option<Register> {
    type Op = Register;

    fn take(&mut self, op: &Register) {
        Register::merge(self, op.clone());
    }

    fn join(&mut self, other: Self) {
        if let Some(write) = other {
            Register::merge(self, write);
        }
    }

    fn stored(&self) -> Self {
        self.as_ref().map(|register| {
            let bytes = Wire::from(register).encode_to_vec();
            Wire::decode(&bytes[..]).unwrap().try_into().unwrap()
        })
    }
}

impl Row for Option<Reaction> {
    type Op = Reaction;

    fn take(&mut self, op: &Reaction) {
        Reaction::merge(self, op.clone());
    }

    fn join(&mut self, other: Self) {
        if let Some(write) = other {
            Reaction::merge(self, write);
        }
    }

    fn stored(&self) -> Self {
        self.as_ref()
            .map(|reaction| Reaction::decode(&reaction.encode()).unwrap())
    }
}

fn register() -> impl Strategy<Value = Vec<Register>> {
    let content = (any::<bool>(), prop::option::of("[ab]{0,2}"));
    by_position(content, 0..=OPS_MAX).prop_map(|ops| {
        let write = |(position, (changed, value))| Register {
            value,
            position,
            changed,
        };
        ops.into_iter().map(write).collect()
    })
}

fn reactions() -> impl Strategy<Value = Vec<Reaction>> {
    by_position(any::<bool>(), 0..=OPS_MAX).prop_map(|ops| {
        let write = |(position, present)| Reaction { present, position };
        ops.into_iter().map(write).collect()
    })
}

proptest! {
    #[test]
    fn of_registers_the_last_change_or_else_the_last_creation_wins(
        ops in register(),
        deliveries in deliveries(),
    ) {
        check_laws::<Option<Register>>(&ops, &deliveries, |row, ops| {
            let last = |changed: bool| {
                let writes = ops.iter().filter(|op| op.changed == changed);
                writes.max_by_key(|op| op.position)
            };
            let wins = last(true).or_else(|| last(false)).copied();
            prop_assert_eq!(row.as_ref(), wins);
            Ok(())
        })?;
    }

    #[test]
    fn of_reactions_the_last_wins(ops in reactions(), deliveries in deliveries()) {
        check_laws::<Option<Reaction>>(&ops, &deliveries, |row, ops| {
            let wins = ops.iter().max_by_key(|op| op.position).copied();
            prop_assert_eq!(row.as_ref(), wins);
            Ok(())
        })?;
    }
}
