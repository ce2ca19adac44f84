//! The file of a queue: JSON lines, appended and synced; and the lock that keeps others out.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::QueueError;
use super::entry::{Entry, Reason, Sent, Ticket};

const VERSION: u32 = 1;

const LOCK_MOMENT: Duration = Duration::from_millis(250);
const LOCK_POLL: Duration = Duration::from_millis(5);

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    /// The first line.
    Queue { version: u32, next: u64 },
    /// An entry was put in.
    Add(Entry),
    /// It was sent.
    Sent { ticket: Ticket, sent: Sent },
    /// It failed for good.
    Failed { ticket: Ticket, reason: Reason },
    /// A failed one was taken note of.
    Cleared { ticket: Ticket },
}

impl Record {
    pub(super) fn head(next: u64) -> Self {
        Self::Queue {
            version: VERSION,
            next,
        }
    }

    /// Whether its line may begin so.
    fn starts(&self, bytes: &[u8]) -> bool {
        line(self).starts_with(bytes)
    }
}

#[derive(Debug)]
pub(super) struct Log {
    file: File,
    path: PathBuf,
    /// Its length, of whole lines.
    pub(super) bytes: u64,
    pub(super) lines: usize,
    /// A write failed: what the file holds is not known until it is read again.
    broken: bool,
    /// Where the end of the file was put when it was cut off.
    pub(super) cut: Option<PathBuf>,
    /// Held while the queue is open.
    _lock: File,
}

impl Log {
    /// Opens the log in a folder, which is made if need be, and reads it. What a crash left of a
    /// last line is cut off, and put aside: whoever wrote it was never told that it was kept, but
    /// who knows what else has happened to the disk.
    pub(super) fn open(folder: &Path) -> Result<(Self, Vec<Record>), QueueError> {
        let failed = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| QueueError::Io {
                doing,
                path,
                source,
            }
        };
        fs::create_dir_all(folder).map_err(failed("make", folder))?;
        let lock_path = folder.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(failed("open", &lock_path))?;
        match take(&lock) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(QueueError::InUse {
                    path: folder.to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed("lock", &lock_path)(source)),
        }
        let path = folder.join("queue.jsonl");
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(failed("open", &path))?;
        let text = fs::read(&path).map_err(failed("read", &path))?;
        let (records, bytes) = read(&text).map_err(|(line, reason)| QueueError::Damaged {
            path: path.clone(),
            line,
            reason,
        })?;
        let mut log = Self {
            file,
            bytes,
            lines: records.len(),
            broken: false,
            cut: None,
            _lock: lock,
            path,
        };
        let whole = usize::try_from(bytes).unwrap_or(text.len());
        if whole < text.len() {
            let aside = log.path.with_extension("cut");
            put_aside(&aside, &text[whole..]).map_err(failed("write", &aside))?;
            log.cut = Some(aside);
            let cut = log.file.set_len(bytes).and_then(|()| log.file.sync_all());
            cut.map_err(failed("cut", &log.path))?;
        }
        if log.lines == 0 {
            log.append(&Record::head(1))?;
            // The names of new files must last, too.
            let synced = File::open(folder).and_then(|folder| folder.sync_all());
            synced.map_err(failed("sync", folder))?;
        }
        Ok((log, records))
    }

    /// Adds a line; it is on the disk when this returns.
    pub(super) fn append(&mut self, record: &Record) -> Result<(), QueueError> {
        if self.broken {
            return Err(self.failed("write", io::Error::other("an earlier write failed")));
        }
        let line = line(record);
        if let Err(source) = self.file.write_all(&line) {
            // Half a line must not stand before the next.
            self.broken = self.file.set_len(self.bytes).is_err();
            return Err(self.failed("write", source));
        }
        if let Err(source) = self.file.sync_data() {
            // Whether it is on the disk is not to be found out by trying again.
            self.broken = true;
            return Err(self.failed("sync", source));
        }
        self.bytes += line.len() as u64;
        self.lines += 1;
        Ok(())
    }

    /// Puts these lines in the place of all, at once.
    pub(super) fn rewrite(&mut self, records: &[Record]) -> Result<(), QueueError> {
        let new = self.path.with_extension("new");
        let text: Vec<u8> = records.iter().flat_map(line).collect();
        let replaced = (|| {
            let mut file = File::create(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&new, &self.path)?;
            if let Some(folder) = self.path.parent() {
                File::open(folder)?.sync_all()?;
            }
            File::options().append(true).open(&self.path)
        })();
        match replaced {
            Ok(file) => {
                self.file = file;
                self.bytes = text.len() as u64;
                self.lines = records.len();
                Ok(())
            }
            Err(source) => {
                // The open file may be the old one.
                self.broken = true;
                Err(self.failed("rewrite", source))
            }
        }
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> QueueError {
        QueueError::Io {
            doing,
            path: self.path.clone(),
            source,
        }
    }
}

/// A program that this process has just forked keeps the locks of files that were closed meanwhile,
/// until it is its own program: a lock counts as taken only after a moment.
fn take(lock: &File) -> Result<(), TryLockError> {
    let started = Instant::now();
    loop {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) if started.elapsed() < LOCK_MOMENT => {
                std::thread::sleep(LOCK_POLL);
            }
            taken => return taken,
        }
    }
}

fn put_aside(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().create(true).append(true).open(path)?;
    file.write_all(bytes)?;
    file.write_all(b"\n")?;
    file.sync_all()
}

fn line(record: &Record) -> Vec<u8> {
    // No map keys and no values that JSON cannot hold.
    let mut line = serde_json::to_vec(record).expect("records always serialize");
    line.push(b'\n');
    line
}

/// The records of whole lines and how many bytes they take; or the line that is wrong, and why.
fn read(text: &[u8]) -> Result<(Vec<Record>, u64), (usize, String)> {
    let mut records = Vec::new();
    let mut bytes = 0;
    for (number, line) in (1..).zip(text.split_inclusive(|&byte| byte == b'\n')) {
        if line.last() != Some(&b'\n') {
            // Torn in its first line it is a new queue; anything else is somebody else's file.
            if number == 1 && !Record::head(1).starts(line) {
                return Err((number, "this is no queue".to_owned()));
            }
            break;
        }
        let record: Record = match serde_json::from_slice(line) {
            Ok(record) => record,
            // Torn, too: its end came to the disk before its middle, which reads as zeros.
            Err(_) if number > 1 && bytes + line.len() == text.len() && line.contains(&0) => break,
            Err(error) => return Err((number, error.to_string())),
        };
        match (&record, number) {
            (Record::Queue { version, .. }, 1) if *version == VERSION => {}
            (Record::Queue { version, .. }, 1) => {
                let reason = format!("this program reads version {VERSION}, not {version}");
                return Err((number, reason));
            }
            (Record::Queue { .. }, _) => return Err((number, "a second head".to_owned())),
            (_, 1) => return Err((number, "the head of a queue is missing".to_owned())),
            _ => {}
        }
        records.push(record);
        bytes += line.len();
    }
    Ok((records, bytes as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleared(ticket: u64) -> Record {
        Record::Cleared {
            ticket: Ticket(ticket),
        }
    }

    #[test]
    fn a_torn_last_line_is_cut_off_and_nothing_else() {
        let whole: Vec<u8> = [Record::head(1), cleared(1), cleared(2)]
            .iter()
            .flat_map(line)
            .collect();
        let (all, bytes) = read(&whole).unwrap();
        assert_eq!((all.len(), bytes), (3, whole.len() as u64));
        let second = whole.len() - line(&cleared(2)).len();
        for end in second..whole.len() {
            let (records, bytes) = read(&whole[..end]).unwrap();
            assert_eq!((records.len(), bytes), (2, second as u64), "{end}");
        }
        // The middle of the last line did not come to the disk.
        let mut holed = whole.clone();
        holed[second + 2] = 0;
        assert_eq!(read(&holed).unwrap().0.len(), 2);
        // Whole, but not a record: that is no crash.
        let mut changed = whole.clone();
        changed[second + 2] = b'#';
        assert_eq!(read(&changed).unwrap_err().0, 3);
        // Of a line before it, which was kept, that is damage.
        let mut damaged = whole;
        damaged[second - 3] = 0;
        assert_eq!(read(&damaged).unwrap_err().0, 2);
    }

    #[test]
    fn what_is_no_queue_is_refused() {
        let of = |records: &[Record]| records.iter().flat_map(line).collect::<Vec<u8>>();
        let newer = Record::Queue {
            version: 2,
            next: 1,
        };
        assert!(read(&of(&[newer])).unwrap_err().1.contains("version 1"));
        assert!(read(&of(&[cleared(1)])).is_err());
        assert!(read(&of(&[Record::head(1), Record::head(1)])).is_err());
        for other in [&b"garbage"[..], b"garbage\n", &[0; 3000], b"{\"add\":"] {
            assert_eq!(read(other).unwrap_err().0, 1, "{other:?}");
        }
        for new in [&b""[..], b"{", b"{\"queue\":{\"version\":1,"] {
            assert!(read(new).unwrap().0.is_empty(), "{new:?}");
        }
    }
}
