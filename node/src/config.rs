//! tmp
#[derive(Clone, Debug)]
pub struct Limits {
    pub members: usize,
    pub edits_per_message: usize,
}
