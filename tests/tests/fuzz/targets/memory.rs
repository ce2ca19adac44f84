//! How much memory and work an input may cost. Both are counted in bytes that are allocated, so a
//! bound holds on every machine: time is not measured.

use allocation_counter::measure;

/// Bytes for an input of some length.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    /// Held at once, whatever the input.
    pub(crate) least: u64,
    /// Held at once, more for each byte of the input.
    pub(crate) each: u64,
    /// Allocated in all, as a multiple of what may be held at once: it stands for the work.
    pub(crate) work: u64,
}

impl Bounds {
    /// Does it, and fails where it took more.
    pub(crate) fn hold<T>(self, input_bytes: usize, work: impl FnOnce() -> T) -> T {
        let mut result = None;
        let used = measure(|| result = Some(work()));
        let at_once = self.least + self.each * input_bytes as u64;
        assert!(
            used.bytes_max <= at_once,
            "{input_bytes} bytes of input held {} bytes, more than {at_once}",
            used.bytes_max
        );
        assert!(
            used.bytes_total <= self.work * at_once,
            "{input_bytes} bytes of input allocated {} bytes, more than {} times {at_once}",
            used.bytes_total,
            self.work
        );
        result.expect("measured work is done")
    }
}
