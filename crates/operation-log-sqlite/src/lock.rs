//! [`Lock`]: the right to be the one engine of a file, and the memory of what was written to it.
//!
//! Both are the file `{path}.lock`. The operating system's lock on it is held while a session lasts and ends
//! with the process, however that ends. Its content is a [`Note`]: who holds the log, and how far the log had
//! got. A log that stands behind its note was restored from a backup.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use redress_operation_log::Error;
use redress_types::{Hash, Timestamp};
use serde::{Deserialize, Serialize};

/// Each note has a place of its own on the disk; the two are written in turn, so that a crash while one is
/// written leaves the other.
const PLACE: usize = 4096;

/// What stands beside a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    /// Which of two notes is the later one.
    pub number: u64,
    /// The log it speaks of, in hexadecimal.
    pub log: String,
    /// The last session opened.
    pub session: u64,
    /// Its incarnation.
    pub incarnation: u64,
    /// A position that the log had reached.
    pub position: u64,
    /// Who holds it: the process,
    pub pid: u32,
    /// the engine,
    pub engine: String,
    /// and since when.
    pub since: Timestamp,
}

/// The lock, held; dropped, it is free.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    path: PathBuf,
    /// What stands in it, as far as it can be read.
    pub note: Option<Note>,
}

/// How often a lock that is not to be had is tried again: whoever only looks ([`is_held`]) has it for a moment.
const LOOKS: u32 = 3;

fn try_lock(file: &File) -> Result<(), TryLockError> {
    for _ in 1..LOOKS {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(std::time::Duration::from_millis(2)),
            answer => return answer,
        }
    }
    file.try_lock()
}

/// Whether an engine holds the log at `path` now, in whatever process. What cannot be looked at counts as held.
pub(crate) fn is_held(path: &Path) -> bool {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    match File::open(name) {
        Ok(file) => file.try_lock_shared().is_err(),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

impl Lock {
    /// Takes the lock of the log at `path`.
    pub(crate) fn take(path: &Path, log: &str) -> Result<Self, Error> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        let failed = |error| Error::unavailable(format!("{} cannot be opened", path.display()), error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match try_lock(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let by = match read(&mut file) {
                    Some(note) => {
                        format!("process {} (engine {}) since {}", note.pid, note.engine, note.since)
                    }
                    None => "another process that is just starting".into(),
                };
                return Err(Error::Held { log: log.to_owned(), by });
            }
            Err(TryLockError::Error(error)) => {
                return Err(Error::unavailable(format!("{} cannot be locked", path.display()), error));
            }
        }
        let note = read(&mut file);
        Ok(Self { file, path, note })
    }

    /// Replaces the note. `durable`: it must have reached the disk; otherwise it is a help that may be lost.
    pub(crate) fn write(&mut self, mut note: Note, durable: bool) -> Result<(), Error> {
        note.number = self.note.as_ref().map_or(0, |note| note.number) + 1;
        // An engine's name of any length would not fit; the others are bounded.
        note.engine = note.engine.chars().take(200).collect();
        let failed = |error| Error::unavailable(format!("{} cannot be written", self.path.display()), error);
        let place = encode(&note).map_err(failed)?;
        let at = if note.number.is_multiple_of(2) { 0 } else { PLACE as u64 };
        let mut write = || {
            self.file.seek(SeekFrom::Start(at))?;
            self.file.write_all(&place)?;
            if durable { self.file.sync_all() } else { Ok(()) }
        };
        write().map_err(failed)?;
        self.note = Some(note);
        Ok(())
    }

    /// Remembers how far the log has got, after that was durable. A help: a backup of this same session that is
    /// put back is noticed by it, and without it by nothing.
    pub(crate) fn note_position(&mut self, position: u64) {
        let Some(note) = &self.note else { return };
        if position > note.position
            && let Err(error) = self.write(Note { position, ..note.clone() }, false)
        {
            tracing::warn!(%error, "the position could not be noted");
        }
    }
}

/// A line of JSON, its hash, and spaces up to a full place.
fn encode(note: &Note) -> std::io::Result<Vec<u8>> {
    let json = serde_json::to_string(note)?;
    let mut place = format!("{} {json}\n", Hash::of(&[json.as_bytes()])).into_bytes();
    if place.len() > PLACE {
        return Err(std::io::Error::other("the note is too long"));
    }
    place.resize(PLACE, b' ');
    Ok(place)
}

fn decode(place: &[u8]) -> Option<Note> {
    let line = std::str::from_utf8(place).ok()?.lines().next()?;
    let (hash, json) = line.split_once(' ')?;
    (hash.parse::<Hash>().ok()? == Hash::of(&[json.as_bytes()])).then_some(())?;
    serde_json::from_str(json).ok()
}

/// The later of the two notes that can be read.
fn read(file: &mut File) -> Option<Note> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.take(2 * PLACE as u64).read_to_end(&mut bytes).ok()?;
    bytes.chunks(PLACE).filter_map(decode).max_by_key(|note| note.number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(session: u64) -> Note {
        Note {
            number: 0,
            log: "ab".into(),
            session,
            incarnation: 1,
            position: 7,
            pid: 42,
            engine: "main".into(),
            since: Timestamp::EPOCH,
        }
    }

    #[test]
    fn a_note_cut_short_leaves_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let mut lock = Lock::take(&path, "a.db").unwrap();
        assert_eq!(lock.note, None);
        lock.write(note(1), true).unwrap();
        lock.write(note(2), true).unwrap();
        drop(lock);
        let beside = folder.path().join("a.db.lock");
        let mut bytes = std::fs::read(&beside).unwrap();
        // The second note stands in the first place.
        bytes[70] ^= 1;
        std::fs::write(&beside, bytes).unwrap();
        assert_eq!(Lock::take(&path, "a.db").unwrap().note.unwrap().session, 1);
    }

    #[test]
    fn only_one_has_it_and_the_other_learns_who() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let mut lock = Lock::take(&path, "a.db").unwrap();
        lock.write(note(1), false).unwrap();
        let error = Lock::take(&path, "a.db").unwrap_err();
        assert_eq!(error.to_string(), "a.db is held by process 42 (engine main) since 1970-01-01T00:00:00Z");
        assert!(is_held(&path));
        drop(lock);
        assert!(!is_held(&path));
        Lock::take(&path, "a.db").unwrap();
        assert!(!is_held(&folder.path().join("b.db")));
    }
}
