//! How values stand in columns: ids as `uuid`, hashes as `bytea`, times and counters as `bigint`, enums as their
//! words, and texts with their NULs written otherwise.

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;

use redress_types::{Hash, OperationId, Timestamp};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgRow, PgTypeInfo, PgValueRef, Postgres};
use sqlx::{Decode, Encode, Row as _, Type};

/// Postgres keeps every character in a `text` but U+0000. It is written as two characters, the first of which no
/// text should hold; where one holds it nevertheless, that is written as two as well.
const ESCAPE: char = '\u{ffff}';

/// A text as its column holds it.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', ESCAPE]) {
        return Cow::Borrowed(text);
    }
    let mut written = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\0' => written.extend([ESCAPE, '0']),
            ESCAPE => written.extend([ESCAPE, '1']),
            c => written.push(c),
        }
    }
    Cow::Owned(written)
}

/// [`text`] of a text that may be absent.
pub(crate) fn maybe(value: Option<&str>) -> Option<Cow<'_, str>> {
    value.map(text)
}

/// A text from a column.
fn untext(stored: String) -> String {
    if !stored.contains(ESCAPE) {
        return stored;
    }
    let mut read = String::with_capacity(stored.len());
    let mut chars = stored.chars();
    while let Some(c) = chars.next() {
        match c {
            ESCAPE => read.push(if chars.next() == Some('0') { '\0' } else { ESCAPE }),
            c => read.push(c),
        }
    }
    read
}

/// A counter as Postgres keeps it. None of ours comes near the end of its range.
pub(crate) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A limit.
pub(crate) fn most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// A duration in microseconds.
pub(crate) fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// The four words of a hash, as the sums of the sessions keep them.
pub(crate) fn words(hash: &Hash) -> [i64; 4] {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(hash.0.chunks_exact(8)) {
        *word = bytes.iter().fold(0, |word, byte| (word << 8) | i64::from(*byte));
    }
    words
}

/// A hash from its four words.
pub(crate) fn unwords(words: [i64; 4]) -> Hash {
    let mut hash = Hash::ZERO;
    for (bytes, word) in hash.0.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    hash
}

/// An operation's id in a `uuid` column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Uid(pub OperationId);

/// The numbers that Postgres gives to `uuid` and `uuid[]`.
const UUID: Oid = Oid(2950);
const UUIDS: Oid = Oid(2951);

impl Type<Postgres> for Uid {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(UUID)
    }

    fn compatible(ty: &PgTypeInfo) -> bool {
        ty.oid() == Some(UUID)
    }
}

impl PgHasArrayType for Uid {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(UUIDS)
    }
}

impl Encode<'_, Postgres> for Uid {
    fn encode_by_ref(&self, buf: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buf.extend_from_slice(self.0.0.as_bytes());
        Ok(IsNull::No)
    }
}

impl Decode<'_, Postgres> for Uid {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        Ok(Self(OperationId(uuid::Uuid::from_slice(value.as_bytes()?)?)))
    }
}

/// Bytes that are shared with who gave them: an array of them is sent without copying each first.
#[derive(Clone, Debug)]
pub(crate) struct Bytes(pub Arc<[u8]>);

impl Type<Postgres> for Bytes {
    fn type_info() -> PgTypeInfo {
        <[u8] as Type<Postgres>>::type_info()
    }
}

impl PgHasArrayType for Bytes {
    fn array_type_info() -> PgTypeInfo {
        <[&[u8]] as Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for Bytes {
    fn encode_by_ref(&self, buf: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buf.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }
}

/// The columns of one row, read from the first to the last.
pub(crate) struct Columns<'a> {
    row: &'a PgRow,
    next: usize,
}

type Read<T> = Result<T, sqlx::Error>;

impl<'a> Columns<'a> {
    pub(crate) fn of(row: &'a PgRow) -> Self {
        Self { row, next: 0 }
    }

    /// The same row, from this column on.
    pub(crate) fn at(row: &Self, next: usize) -> Self {
        Self { row: row.row, next }
    }

    /// The next column, as it is.
    pub(crate) fn get<T: Decode<'a, Postgres> + Type<Postgres>>(&mut self) -> Read<T> {
        let column = self.next;
        self.next += 1;
        self.row.try_get(column)
    }

    pub(crate) fn text(&mut self) -> Read<String> {
        self.get().map(untext)
    }

    pub(crate) fn maybe_text(&mut self) -> Read<Option<String>> {
        Ok(self.get::<Option<String>>()?.map(untext))
    }

    pub(crate) fn count(&mut self) -> Read<u64> {
        let value: i64 = self.get()?;
        u64::try_from(value).map_err(|error| self.wrong(error))
    }

    pub(crate) fn maybe_count(&mut self) -> Read<Option<u64>> {
        let value: Option<i64> = self.get()?;
        value.map(u64::try_from).transpose().map_err(|error| self.wrong(error))
    }

    pub(crate) fn small(&mut self) -> Read<u32> {
        let value: i64 = self.get()?;
        u32::try_from(value).map_err(|error| self.wrong(error))
    }

    pub(crate) fn version(&mut self) -> Read<u16> {
        let value: i16 = self.get()?;
        u16::try_from(value).map_err(|error| self.wrong(error))
    }

    pub(crate) fn time(&mut self) -> Read<Timestamp> {
        self.get().map(Timestamp::from_micros)
    }

    pub(crate) fn maybe_time(&mut self) -> Read<Option<Timestamp>> {
        Ok(self.get::<Option<i64>>()?.map(Timestamp::from_micros))
    }

    pub(crate) fn id(&mut self) -> Read<OperationId> {
        Ok(self.get::<Uid>()?.0)
    }

    pub(crate) fn hash(&mut self) -> Read<Hash> {
        let bytes: &[u8] = self.get()?;
        Hash::from_slice(bytes).ok_or_else(|| self.wrong("not a hash of 32 bytes"))
    }

    pub(crate) fn maybe_hash(&mut self) -> Read<Option<Hash>> {
        let Some(bytes) = self.get::<Option<&[u8]>>()? else { return Ok(None) };
        Hash::from_slice(bytes).map(Some).ok_or_else(|| self.wrong("not a hash of 32 bytes"))
    }

    pub(crate) fn bytes(&mut self) -> Read<Arc<[u8]>> {
        Ok(Arc::from(self.get::<&[u8]>()?))
    }

    /// A value that stands in a column as its word.
    pub(crate) fn word<T>(&mut self) -> Read<T>
    where
        T: FromStr,
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        let word: &str = self.get()?;
        word.parse().map_err(|error: T::Err| self.wrong(error))
    }

    /// A value that stands in a column as JSON.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&mut self) -> Read<T> {
        let json = self.text()?;
        serde_json::from_str(&json).map_err(|error| self.wrong(error))
    }

    /// The column just read does not hold what it must.
    pub(crate) fn wrong(&self, source: impl Into<BoxDynError>) -> sqlx::Error {
        let index = self.next.saturating_sub(1).to_string();
        sqlx::Error::ColumnDecode { index, source: source.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back_as_it_was() {
        for given in ["", "plain", "a\0b", "\0\0", "\u{ffff}", "\u{ffff}0", "0\0\u{ffff}1", "é 🦀 \0"] {
            let stored = text(given).into_owned();
            assert!(!stored.contains('\0'), "{given:?}");
            assert_eq!(untext(stored), given);
        }
        assert!(matches!(text("plain"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_hash_is_its_four_words() {
        let (one, two) = (Hash::of(&[b"one"]), Hash::of(&[b"two"]));
        assert_eq!(unwords(words(&one)), one);
        let mut both = one;
        both.combine(&two);
        let (a, b) = (words(&one), words(&two));
        assert_eq!(unwords([a[0] ^ b[0], a[1] ^ b[1], a[2] ^ b[2], a[3] ^ b[3]]), both);
    }
}
