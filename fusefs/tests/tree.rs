//! Two ways to look at the tree: at the view, and through a mount. What holds for one must hold for the other.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use pyro_fusefs::{Kind, Node, View, ViewError, Visibility};

use crate::world::World;

/// Somebody who looks at the tree. Paths are relative to its top; the top itself is the empty one.
pub(crate) trait Look {
    /// Returns the names in a directory, sorted.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;
    /// Returns where a link leads.
    fn target(&self, path: &str) -> io::Result<String>;
    /// Returns size and time of a file, the time in microseconds.
    fn stat(&self, path: &str) -> io::Result<(u64, u64)>;
    /// Opens a file.
    fn open(&self, path: &str) -> io::Result<Box<dyn Open + '_>>;

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        self.open(path)?.part(0, usize::MAX)
    }

    fn text(&self, path: &str) -> String {
        String::from_utf8(self.read(path).unwrap_or_else(|error| panic!("{path}: {error}"))).unwrap()
    }

    fn exists(&self, path: &str) -> bool {
        self.stat(path).is_ok()
    }
}

/// An open file.
pub(crate) trait Open {
    /// Returns at most so many bytes from an offset on.
    fn part(&mut self, offset: u64, size: usize) -> io::Result<Vec<u8>>;
}

/// Most bytes of one read, as of the kernel's.
const READ_MAX: usize = 100;

impl Look for View {
    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let entries = Self::list(self, &find(self, path)?).map_err(io_error)?;
        let mut names: Vec<String> = entries.into_iter().map(|(name, _)| name).collect();
        names.sort();
        Ok(names)
    }

    fn target(&self, path: &str) -> io::Result<String> {
        Self::target(self, &find(self, path)?).map_err(io_error)
    }

    fn stat(&self, path: &str) -> io::Result<(u64, u64)> {
        let attributes = self.attributes(&find(self, path)?).map_err(io_error)?;
        Ok((attributes.size, attributes.time.0))
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn Open + '_>> {
        let content = Self::open(self, &find(self, path)?).map_err(io_error)?;
        Ok(Box::new((self, content)))
    }
}

impl Open for (&View, pyro_fusefs::Content) {
    fn part(&mut self, offset: u64, size: usize) -> io::Result<Vec<u8>> {
        let mut bytes: Vec<u8> = Vec::new();
        while bytes.len() < size {
            let wanted = READ_MAX.min(size - bytes.len());
            match self.0.read(&self.1, offset + bytes.len() as u64, wanted).map_err(io_error)? {
                more if more.is_empty() => break,
                more => bytes.extend(more),
            }
        }
        Ok(bytes)
    }
}

/// Finds a node by its path, following links like the kernel does.
fn find(view: &View, path: &str) -> io::Result<Node> {
    let mut node = Node::Root;
    let mut directories = vec![Node::Root];
    let mut names: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
    while let Some(name) = names.pop() {
        match name.as_str() {
            "" => continue,
            ".." => {
                directories.pop();
                node = directories.last().cloned().unwrap_or(Node::Root);
                continue;
            }
            name => node = view.lookup(&node, name).map_err(io_error)?,
        }
        if node.kind() == Kind::Link && !names.is_empty() {
            let target = View::target(view, &node).map_err(io_error)?;
            names.extend(target.split('/').rev().map(str::to_owned));
            node = directories.last().cloned().unwrap_or(Node::Root);
        } else {
            directories.push(node.clone());
        }
    }
    Ok(node)
}

fn io_error(error: ViewError) -> io::Error {
    match error {
        ViewError::Gone => io::Error::from_raw_os_error(2),
        ViewError::NotADirectory => io::Error::from_raw_os_error(20),
        ViewError::NotALink => io::Error::from_raw_os_error(22),
        error => io::Error::other(error),
    }
}

/// The tree through a mount.
#[derive(Debug)]
pub(crate) struct Mounted(pub(crate) PathBuf);

impl Look for Mounted {
    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(self.0.join(path))?;
        let names: io::Result<Vec<String>> =
            entries.map(|entry| Ok(entry?.file_name().into_string().unwrap())).collect();
        let mut names = names?;
        names.sort();
        Ok(names)
    }

    fn target(&self, path: &str) -> io::Result<String> {
        Ok(fs::read_link(self.0.join(path))?.to_str().unwrap().to_owned())
    }

    fn stat(&self, path: &str) -> io::Result<(u64, u64)> {
        let metadata = fs::symlink_metadata(self.0.join(path))?;
        let micros = metadata.mtime() * 1_000_000 + metadata.mtime_nsec() / 1000;
        Ok((metadata.len(), u64::try_from(micros).unwrap()))
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn Open + '_>> {
        Ok(Box::new(fs::File::open(self.0.join(path))?))
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        fs::read(self.0.join(path))
    }
}

impl Open for fs::File {
    fn part(&mut self, offset: u64, size: usize) -> io::Result<Vec<u8>> {
        use std::os::unix::fs::FileExt as _;
        let mut bytes: Vec<u8> = Vec::new();
        let mut buffer = [0; 4096];
        while bytes.len() < size {
            let wanted = buffer.len().min(size - bytes.len());
            match self.read_at(&mut buffer[..wanted], offset + bytes.len() as u64)? {
                0 => break,
                read => bytes.extend_from_slice(&buffer[..read]),
            }
        }
        Ok(bytes)
    }
}

/// Returns why nothing can be mounted here; `None` when it can.
pub(crate) fn obstacle() -> Option<String> {
    let device = fs::File::options().read(true).write(true).open("/dev/fuse");
    device.err().map(|error| format!("skipped: /dev/fuse: {error}"))
}

/// Runs a case against the view, and through a mount where that is possible.
pub(crate) fn both(case: impl Fn(&World, &dyn Look)) {
    let world = World::new();
    case(&world, &world.view());
    through_a_mount(case);
}

/// Runs a case through a mount where that is possible.
pub(crate) fn through_a_mount(case: impl Fn(&World, &dyn Look)) {
    with_mount(|world, path| case(world, &Mounted(path.to_owned())));
}

/// Runs a case with a mount where that is possible.
pub(crate) fn with_mount(case: impl Fn(&World, &Path)) {
    if let Some(obstacle) = obstacle() {
        return eprintln!("{obstacle}");
    }
    let world = World::new();
    let mount = world.mount(Visibility::Owner);
    case(&world, mount.path());
}

/// Returns all files that are listed, with their content, and links with where they lead.
pub(crate) fn walk(tree: &dyn Look, path: &str, found: &mut BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    for name in tree.list(path)? {
        let path = if path.is_empty() { name } else { format!("{path}/{name}") };
        if let Ok(target) = tree.target(&path) {
            found.insert(path, target.into_bytes());
        } else if tree.list(&path).is_ok() {
            found.insert(path.clone(), Vec::new());
            walk(tree, &path, found)?;
        } else {
            found.insert(path.clone(), tree.read(&path)?);
        }
    }
    Ok(())
}
