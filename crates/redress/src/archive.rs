//! `redress archive`: ended operations leave the log for a file of JSON lines, each of which proves itself.
//!
//! A line is on the disk before its operation is removed. Killed in between, the same command writes the line
//! again: an archive may hold an operation twice, and never less than once.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use anyhow::{Context as _, Error, bail};
use redress_operation_log::archive::{line, prove};
use redress_operation_log::{Archived, OperationLog};
use redress_types::{Clock as _, Hash, OperationId, SystemClock};
use serde_json::json;

use crate::Exit;
use crate::cli::{Archive, Global};
use crate::database::Place;
use crate::text::{count, json_line, print};

/// Operations that are written and removed at a time.
const BATCH: usize = 200;

/// Moves what ended long enough ago.
pub(crate) async fn archive(global: &Global, asked: Archive) -> Result<Exit, Error> {
    let log = Place::of(global)?.open_existing().await?;
    let before = SystemClock.now().minus(asked.older_than);
    let shown = asked.to.display();
    let mut file = open(&asked.to).with_context(|| format!("opening the archive {shown}"))?;
    sync_folder(&asked.to)?;
    let (mut written, mut removed) = (0, 0);
    loop {
        let batch = log.archivable(before, BATCH).await.context("reading what may be archived")?;
        if batch.is_empty() {
            break;
        }
        append(&mut file, &batch).with_context(|| format!("writing the archive {shown}"))?;
        written += batch.len();
        let gone = remove(&*log, &batch).await?;
        removed += gone;
        if gone == 0 {
            bail!(
                "{} written to {shown} could not be removed; run `redress verify`",
                count(written, "operation")
            );
        }
    }
    if global.json {
        print(&json_line(&json!({"type": "archive", "file": shown.to_string(), "written": written,
            "removed": removed, "ended_before": before.to_string()}))?)?;
    } else if written == 0 {
        print(&format!("nothing ended before {before}\n"))?;
    } else {
        print(&format!("{} moved to {shown}\n", count(written, "operation")))?;
    }
    Ok(Exit::DONE)
}

/// Opens the file to add to it; makes it when there is none. Nobody else adds to it meanwhile. What is no archive is
/// left alone, and a last line that was cut short by a full disk or a kill is taken away: its operation was not removed.
fn open(path: &Path) -> Result<File, Error> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    if !file.metadata()?.is_file() {
        bail!("it is no file");
    }
    if let Err(error) = file.try_lock() {
        bail!("another process adds to it ({error})");
    }
    let mut first = String::new();
    // Far more than a line has; another kind of file may have no line end at all.
    BufReader::new((&file).take(1 << 30)).read_line(&mut first).context("it is no archive")?;
    if first.ends_with('\n') {
        prove(first.trim_end()).context("it is no archive: its first line proves nothing")?;
    } else if !first.is_empty() && !first.starts_with(ARCHIVE_BEGINS) {
        bail!("it is no archive");
    }
    let whole = whole_lines(&mut file)?;
    if whole < file.metadata()?.len() {
        file.set_len(whole)?;
        file.sync_all()?;
    }
    Ok(file)
}

/// How each line begins.
const ARCHIVE_BEGINS: &str = "{\"format\":";

/// The bytes up to and with the last line end.
fn whole_lines(file: &mut File) -> Result<u64, Error> {
    let mut end = file.metadata()?.len();
    let mut block = vec![0; 1 << 16];
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let size = usize::try_from(end - start)?;
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block[..size])?;
        if let Some(last) = block[..size].iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

fn append(file: &mut File, batch: &[Archived]) -> Result<(), Error> {
    let mut lines = String::new();
    for archived in batch {
        lines.push_str(&line(archived)?);
        lines.push('\n');
    }
    file.write_all(lines.as_bytes())?;
    file.sync_all()?;
    Ok(())
}

async fn remove(log: &dyn OperationLog, batch: &[Archived]) -> Result<usize, Error> {
    let which: Vec<(OperationId, Hash)> =
        batch.iter().map(|archived| (archived.head.id, archived.head.hash)).collect();
    let removed = log.remove_archived(&which).await.context("removing what was archived")?;
    Ok(usize::try_from(removed)?)
}

/// The file's name must be durable too, not only its bytes.
fn sync_folder(path: &Path) -> Result<(), Error> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("making {} durable", path.display()))
}

/// Proves every line of an archive.
pub(crate) fn verify(global: &Global, path: &Path) -> Result<Exit, Error> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("opening the archive {shown}"))?;
    let (mut whole, mut broken, mut entries) = (0, 0, 0);
    for (number, line) in (1..).zip(BufReader::new(file).lines()) {
        let line = line.with_context(|| format!("reading line {number} of {shown}"))?;
        match prove(&line) {
            Ok(proven) => (whole, entries) = (whole + 1, entries + proven.entries),
            Err(error) => {
                broken += 1;
                let error = anyhow::Error::from(error);
                if global.json {
                    print(&json_line(
                        &json!({"type": "broken", "line": number, "what": format!("{error:#}")}),
                    )?)?;
                } else {
                    print(&format!("line {number}: {}\n", crate::text::escape(&format!("{error:#}"))))?;
                }
            }
        }
    }
    if global.json {
        print(&json_line(&json!({"type": "archive", "file": shown.to_string(), "operations": whole,
            "entries": entries, "broken": broken}))?)?;
    } else {
        let what = count(whole, "operation");
        let with = if entries == 1 { "1 entry".to_owned() } else { format!("{entries} entries") };
        print(&format!("{shown}: {what} with {with} proven, {broken} broken\n"))?;
    }
    Ok(if broken == 0 { Exit::DONE } else { Exit::OTHERWISE })
}
