//! For tests: a directory of one's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Removed with all that is in it.
pub(super) struct Temporary(PathBuf);

impl Temporary {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("rsecho-store-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Everything in it, by path and contents, in order; directories have none.
    pub(super) fn all(&self) -> Vec<(String, Option<Vec<u8>>)> {
        let mut found = Vec::new();
        let mut ahead = vec![self.0.clone()];
        while let Some(directory) = ahead.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(&self.0).unwrap();
                let is_directory = path.is_dir() && !path.is_symlink();
                let data = (!is_directory).then(|| fs::read(&path).unwrap_or_default());
                found.push((name.to_str().unwrap().to_owned(), data));
                if is_directory {
                    ahead.push(path);
                }
            }
        }
        found.sort();
        found
    }

    /// Its files' names, of parts ".part" alone.
    pub(super) fn names(&self) -> Vec<String> {
        let name = |(name, _): (String, _)| match name.ends_with(".part") {
            true => ".part".to_owned(),
            false => name,
        };
        self.all().into_iter().map(name).collect()
    }

    /// What a process would find that starts after everything ended at this moment.
    pub(super) fn after_a_crash(&self) -> Self {
        let copy = Self::new();
        for (name, data) in self.all() {
            match data {
                Some(data) => fs::write(copy.join(&name), data).unwrap(),
                None => fs::create_dir(copy.join(&name)).unwrap(),
            }
        }
        copy
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
