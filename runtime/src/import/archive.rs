//! The entries of a tar archive.
//!
//! The tar crate finds the headers and sums them up; what they mean is decided here. It moves on by the size that a
//! header gives, so a size that anybody could read differently is refused before anything is done with the entry.

use std::io::{self, Read as _};
use std::path::Path;

use pyro_protocol::{CONTENT_MAX, Entry, EntryKind};

use super::Sink;
use super::delivery::Delivery;
use super::error::{ReadError, SourceError};
use super::extended::{Extended, Reason, check_global};
use super::header::Header;
use super::limits::EXTENDED_LEN_MAX;
use super::names::{Given, Names};
use super::path::{Name, check_target};
use super::stream::{BLOCK_LEN, Stream};

/// Permission bits of a directory that are kept: others lose their meaning or get a dangerous one in a guest.
pub(super) const DIRECTORY_MODE: u32 = 0o1777;
/// Permission bits of a file that are kept.
pub(super) const FILE_MODE: u32 = 0o777;

/// An entry as the tar crate gives it, without any interpretation.
type Raw<'a, 'b, 'c> = tar::Entry<'a, &'b mut Stream<'c>>;

/// Why the reading of entries ended early.
enum Halt<E> {
    /// No header, or not all of an entry's bytes, could be read.
    Bytes,
    /// Something else.
    Read(ReadError<E>),
}

impl<E> From<ReadError<E>> for Halt<E> {
    fn from(error: ReadError<E>) -> Self {
        Self::Read(error)
    }
}

impl<E> From<SourceError> for Halt<E> {
    fn from(error: SourceError) -> Self {
        Self::Read(error.into())
    }
}

impl<E> From<io::Error> for Halt<E> {
    fn from(_: io::Error) -> Self {
        Self::Bytes
    }
}

/// Hands the entries of an archive over.
pub(super) fn read<S: Sink>(path: &Path, delivery: &mut Delivery<'_, S>) -> Result<(), ReadError<S::Error>> {
    let mut stream = Stream::open(path, delivery.watch())?;
    let mut reader = Reader::new(delivery.limits().entries);
    let result = reader.entries(&mut stream, delivery);
    match result {
        Ok(()) => Ok(stream.finish(reader.end)?),
        Err(Halt::Read(error)) => Err(error),
        Err(Halt::Bytes) => Err(reader.damage(&mut stream).into()),
    }
}

struct Reader {
    names: Names,
    /// What stood before the next entry and is about it.
    pending: Pending,
    /// Name of the last entry, for messages.
    last: Vec<u8>,
    /// Where the last entry ends.
    end: u64,
    headers: u64,
    headers_max: u64,
    buffer: Vec<u8>,
}

#[derive(Default)]
struct Pending {
    extended: Option<Extended>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Reader {
    fn new(entries_max: u64) -> Self {
        // An entry has up to three headers before it. Those about nothing are to end as well.
        let headers_max = entries_max.saturating_mul(4);
        Self {
            names: Names::new(entries_max),
            pending: Pending::default(),
            last: Vec::new(),
            end: 0,
            headers: 0,
            headers_max,
            buffer: Vec::new(),
        }
    }

    fn entries<S: Sink>(
        &mut self,
        stream: &mut Stream<'_>,
        delivery: &mut Delivery<'_, S>,
    ) -> Result<(), Halt<S::Error>> {
        let mut archive = tar::Archive::new(stream);
        for raw in archive.entries()?.raw(true) {
            let mut raw = raw?;
            delivery.watch().check()?;
            self.member(&mut raw, delivery)?;
        }
        if self.pending.is_empty() {
            return Ok(());
        }
        Err(SourceError::refused_archive("ends with an extended header that belongs to no entry").into())
    }

    /// Says what is wrong with bytes that are no archive.
    fn damage(&self, stream: &mut Stream<'_>) -> SourceError {
        if let Some(fault) = stream.take_fault() {
            return fault;
        }
        let last = self.pending.name().unwrap_or(&self.last);
        match (stream.has_ended(), self.end) {
            (true, 0) => SourceError::refused_archive("ends too early"),
            (true, _) => SourceError::refused(last, "is the last one of an archive that ends too early"),
            (false, 0) => SourceError::refused_archive("does not begin with a header"),
            (false, _) => SourceError::refused(last, "is followed by a damaged header"),
        }
    }

    /// Takes one header with what is behind it.
    fn member<S: Sink>(
        &mut self,
        raw: &mut Raw<'_, '_, '_>,
        delivery: &mut Delivery<'_, S>,
    ) -> Result<(), Halt<S::Error>> {
        self.last =
            self.pending.name().map_or_else(|| raw.header().path_bytes().into_owned(), <[u8]>::to_vec);
        self.headers += 1;
        if self.headers > self.headers_max {
            return Err(self.refused("has too many headers before it").into());
        }
        let header = Header::parse(raw.header()).map_err(|reason| self.refused(reason))?;
        // The next header is looked for where the crate takes it to be.
        if header.size != raw.size() {
            return Err(self.refused("has a malformed size").into());
        }
        // The crate has checked that this does not overflow.
        self.end = raw.raw_file_position() + header.size.next_multiple_of(BLOCK_LEN as u64);
        match header.type_flag {
            b'x' | b'g' | b'L' | b'K' => self.extension(&header, raw),
            _ => self.entry(header, raw, delivery),
        }
    }

    fn refused(&self, reason: impl Into<Reason>) -> SourceError {
        SourceError::refused(&self.last, reason)
    }

    /// Takes what is about the next entry, or about all.
    fn extension<E>(&mut self, header: &Header, raw: &mut Raw<'_, '_, '_>) -> Result<(), Halt<E>> {
        if header.size > EXTENDED_LEN_MAX {
            return Err(self.refused("has an extended header of more than 1 MiB").into());
        }
        let mut body = Vec::new();
        raw.read_to_end(&mut body)?;
        if body.len() as u64 != header.size {
            return Err(Halt::Bytes);
        }
        let taken = match header.type_flag {
            b'g' if !self.pending.is_empty() => Err("is a global header where an entry has to be".into()),
            b'g' => check_global(&body),
            b'x' => Extended::parse(&body).and_then(|extended| set(&mut self.pending.extended, extended)),
            b'L' => long(body).and_then(|name| set(&mut self.pending.name, name)),
            _ => long(body).and_then(|link| set(&mut self.pending.link, link)),
        };
        taken.map_err(|reason| self.refused(reason).into())
    }

    /// Takes an entry, hands it over, and then its content.
    fn entry<S: Sink>(
        &mut self,
        header: Header,
        raw: &mut Raw<'_, '_, '_>,
        delivery: &mut Delivery<'_, S>,
    ) -> Result<(), Halt<S::Error>> {
        let len = header.size;
        let pending = std::mem::take(&mut self.pending);
        let Some(entry) = self.interpret(header, pending).map_err(|reason| self.refused(reason))? else {
            return Ok(());
        };
        delivery.entry(&entry)?;
        self.buffer.resize(CONTENT_MAX, 0);
        let mut remaining = len;
        while remaining > 0 {
            let wanted = usize::try_from(remaining).map_or(CONTENT_MAX, |len| len.min(CONTENT_MAX));
            raw.read_exact(&mut self.buffer[..wanted])?;
            delivery.content(&self.buffer[..wanted])?;
            remaining -= wanted as u64;
        }
        Ok(())
    }

    /// Turns a header into an entry, or says which rule it breaks. `None` is the destination itself.
    fn interpret(&mut self, header: Header, pending: Pending) -> Result<Option<Entry>, Reason> {
        let (header, extended_size) = pending.apply(header)?;
        if extended_size.is_some_and(|size| size != header.size) {
            return Err("has an extended size that differs from the one in its header".into());
        }
        let given = given(header.type_flag)?;
        let name = Name::parse(&header.name)?;
        if given != Given::Directory && name.is_directory {
            return Err("has a directory's name but is none".into());
        }
        if given != Given::File && header.size != 0 {
            return Err("has content but is no file".into());
        }
        let Name { path, .. } = name;
        if path.is_empty() {
            return Ok(None);
        }
        let (kind, mode) = match given {
            Given::Directory => (EntryKind::Directory, header.mode & DIRECTORY_MODE),
            Given::File => (EntryKind::File { len: header.size }, header.mode & FILE_MODE),
            Given::Symlink => {
                check_target(&path, &header.link)?;
                (EntryKind::Symlink { target: header.link }, FILE_MODE)
            }
            Given::HardLink => (EntryKind::HardLink { target: self.linked(&header.link)? }, FILE_MODE),
        };
        self.names.add(&path, given)?;
        Ok(Some(Entry { path, kind, mode, modified: header.modified }))
    }

    /// Returns the path of the file that a hard link is to be another name of.
    fn linked(&self, target: &[u8]) -> Result<Vec<u8>, Reason> {
        let target = Name::parse(target).map_err(|reason| format!("is a hard link to what {reason}"))?;
        if target.is_directory {
            return Err("is a hard link to a directory".into());
        }
        match self.names.get(&target.path) {
            Some(Given::File) => Ok(target.path),
            Some(Given::Directory) => Err("is a hard link to a directory".into()),
            Some(Given::HardLink | Given::Symlink) => Err("is a hard link to a link".into()),
            None => Err("is a hard link to what does not stand before it".into()),
        }
    }
}

impl Pending {
    const fn is_empty(&self) -> bool {
        self.extended.is_none() && self.name.is_none() && self.link.is_none()
    }

    /// Returns the name of the next entry, when it is known by now.
    fn name(&self) -> Option<&[u8]> {
        let extended = self.extended.as_ref().and_then(|extended| extended.path.as_deref());
        extended.or(self.name.as_deref())
    }

    /// Puts what is known into the header. The size that was given here comes back.
    fn apply(self, mut header: Header) -> Result<(Header, Option<u64>), Reason> {
        let Extended { path, link, size, modified } = self.extended.unwrap_or_default();
        if (path.is_some() && self.name.is_some()) || (link.is_some() && self.link.is_some()) {
            return Err("has a long name in two formats".into());
        }
        if let Some(name) = path.or(self.name) {
            header.name = name;
        }
        if let Some(link) = link.or(self.link) {
            header.link = link;
        }
        if let Some(modified) = modified {
            header.modified = modified;
        }
        Ok((header, size))
    }
}

fn set<T>(slot: &mut Option<T>, value: T) -> Result<(), Reason> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err("has two extended headers of one kind".into()),
    }
}

/// Parses a long name as GNU writes it: with one NUL behind it.
fn long(mut body: Vec<u8>) -> Result<Vec<u8>, Reason> {
    match body.pop() {
        Some(0) if !body.is_empty() && !body.contains(&0) => Ok(body),
        _ => Err("has a malformed long name".into()),
    }
}

/// Returns what an entry is by its type flag, or why it is refused.
fn given(type_flag: u8) -> Result<Given, Reason> {
    Ok(match type_flag {
        b'0' | 0 | b'7' => Given::File,
        b'1' => Given::HardLink,
        b'2' => Given::Symlink,
        b'5' => Given::Directory,
        b'3' => return Err("is a character device".into()),
        b'4' => return Err("is a block device".into()),
        b'6' => return Err("is a FIFO".into()),
        b'S' => return Err("is a sparse file".into()),
        b'D' => return Err("is the listing of a directory in an incremental archive".into()),
        b'M' => return Err("is the continuation of a file from another volume".into()),
        b'V' => return Err("is the label of a volume".into()),
        other => return Err(format!("is of the unknown kind '{}'", other.escape_ascii()).into()),
    })
}
