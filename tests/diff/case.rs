//! One case: a context and a Dockerfile, as parts that can be left out one by one.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Something in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thing {
    File {
        text: String,
        mode: u32,
    },
    Dir {
        mode: u32,
    },
    Symlink {
        target: String,
    },
    /// A file with an extended attribute.
    Marked {
        text: String,
        attribute: (&'static str, &'static [u8]),
    },
    /// A further name of a file of the same tree.
    Hard {
        target: String,
    },
    Fifo,
    /// An archive of further things with these owners.
    Tar {
        things: Vec<(String, Thing, u32, u32)>,
        gzip: bool,
    },
}

/// A line of the Dockerfile that can be left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    Plain(String),
    /// Flags and commands that may each be left out; no command can fail the step.
    Run {
        mounts: Vec<String>,
        commands: Vec<String>,
    },
    /// `head`, sources that may be left out while one is there, destination.
    Copy {
        head: String,
        sources: Vec<String>,
        to: String,
    },
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Plain(text) => f.write_str(text),
            // What waits for something, such as a pipe's other end, does not wait for ever.
            Line::Run { mounts, commands } => {
                let flags: String = mounts.iter().map(|mount| format!("--mount={mount} ")).collect();
                write!(f, "RUN {flags}timeout 60 sh -c '{{ {}; }} 2>/dev/null'; true", commands.join("; "))
            }
            Line::Copy { head, sources, to } => write!(f, "{head} {} {to}", sources.join(" ")),
        }
    }
}

/// A context and a Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    pub seed: u64,
    /// By path below the context; a directory stands before what is in it.
    pub things: Vec<(String, Thing)>,
    pub ignore: Vec<String>,
    pub lines: Vec<Line>,
    /// `--build-arg`s.
    pub args: Vec<String>,
}

impl Case {
    /// The Dockerfile's text.
    pub fn dockerfile(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Whether something of elsewhere is in it.
    pub fn fetches(&self) -> bool {
        self.lines.iter().any(|line| line.to_string().contains("://"))
    }

    /// Writes the context and the Dockerfile into an empty directory.
    pub fn write(&self, dir: &Path) {
        fs::create_dir_all(dir).expect("a directory");
        for (path, thing) in &self.things {
            put(dir, path, thing);
        }
        // Modes of directories at last, so that none is in the way; root is not held by them anyway.
        if !self.ignore.is_empty() {
            fs::write(dir.join(".dockerignore"), self.ignore.join("\n") + "\n").expect("written");
        }
        fs::write(dir.join("Dockerfile"), self.dockerfile()).expect("written");
    }

    /// The case without the line that an error names as `Dockerfile:LINE`; nothing when that is a FROM, which others stand on.
    pub fn without_mistake(&self, error: &str) -> Option<Case> {
        let (_, rest) = error.split_once("/Dockerfile:")?;
        let wanted: usize = rest.split(|mark: char| !mark.is_ascii_digit()).next()?.parse().ok()?;
        let mut at = 1;
        for (index, line) in self.lines.iter().enumerate() {
            let text = line.to_string();
            let next = at + text.lines().count();
            if (at..next).contains(&wanted) && !text.starts_with("FROM") {
                let mut less = self.clone();
                less.lines.remove(index);
                return Some(less);
            }
            at = next;
        }
        None
    }

    /// Every case with one part less, the larger parts first.
    pub fn smaller(&self) -> Vec<Case> {
        let mut found = Vec::new();
        let mut without = |change: &dyn Fn(&mut Case)| {
            let mut less = self.clone();
            change(&mut less);
            found.push(less);
        };
        for index in (0..self.lines.len()).rev() {
            without(&|case| drop(case.lines.remove(index)));
        }
        for index in (0..self.things.len()).rev() {
            without(&|case| drop(case.things.remove(index)));
        }
        for index in 0..self.ignore.len() {
            without(&|case| drop(case.ignore.remove(index)));
        }
        for (index, line) in self.lines.iter().enumerate() {
            let parts = match line {
                Line::Run { mounts, commands } => mounts.len() + if commands.len() > 1 { commands.len() } else { 0 },
                Line::Copy { sources, .. } if sources.len() > 1 => sources.len(),
                _ => 0,
            };
            for part in 0..parts {
                without(&|case| match &mut case.lines[index] {
                    Line::Run { mounts, .. } if part < mounts.len() => drop(mounts.remove(part)),
                    Line::Run { mounts, commands } => drop(commands.remove(part - mounts.len())),
                    Line::Copy { sources, .. } => drop(sources.remove(part)),
                    Line::Plain(_) => {}
                });
            }
        }
        for (index, (_, thing)) in self.things.iter().enumerate() {
            let Thing::Tar { things, .. } = thing else { continue };
            for part in 0..things.len() {
                without(&|case| {
                    let Thing::Tar { things, .. } = &mut case.things[index].1 else { return };
                    things.remove(part);
                });
            }
        }
        found
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}\n--- Dockerfile\n{}--- context", self.seed, self.dockerfile())?;
        self.things.iter().try_for_each(|(path, thing)| writeln!(f, "{path}: {thing:?}"))?;
        if !self.ignore.is_empty() {
            writeln!(f, "--- .dockerignore\n{}", self.ignore.join("\n"))?;
        }
        if !self.args.is_empty() {
            writeln!(f, "--- build arguments: {}", self.args.join(" "))?;
        }
        Ok(())
    }
}

/// A thing whose parent was left out has its parent made for it; one whose name is taken by a file is left out too.
fn put(dir: &Path, path: &str, thing: &Thing) {
    let at = dir.join(path);
    if fs::create_dir_all(at.parent().expect("below the context")).is_err() || at.symlink_metadata().is_ok() {
        return;
    }
    let made = match thing {
        Thing::File { text, mode } => fs::write(&at, text).and_then(|()| fs::set_permissions(&at, fs::Permissions::from_mode(*mode))),
        Thing::Dir { mode } => fs::create_dir(&at).and_then(|()| fs::set_permissions(&at, fs::Permissions::from_mode(*mode))),
        Thing::Symlink { target } => std::os::unix::fs::symlink(target, &at),
        // Not every file system has attributes of users.
        Thing::Marked { text, attribute: (name, value) } => {
            let _ = fs::write(&at, text).map(|()| rustix::fs::setxattr(&at, *name, value, rustix::fs::XattrFlags::empty()));
            Ok(())
        }
        // Its target may have been left out.
        Thing::Hard { target } => fs::hard_link(dir.join(target), &at).or_else(|_| fs::write(&at, "alone")),
        Thing::Fifo => rustix::fs::mknodat(rustix::fs::CWD, &at, rustix::fs::FileType::Fifo, 0o640.into(), 0).map_err(Into::into),
        Thing::Tar { things, gzip } => fs::write(&at, archive(things, *gzip)),
    };
    made.expect("a part of the context is written");
}

/// A tar of things with their owners.
pub fn archive(things: &[(String, Thing, u32, u32)], gzip: bool) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, thing, uid, gid) in things {
        let mut header = tar::Header::new_gnu();
        header.set_uid((*uid).into());
        header.set_gid((*gid).into());
        header.set_mtime(1_000_000_000);
        header.set_mode(0o644);
        header.set_size(0);
        let added = match thing {
            Thing::File { text, mode } => {
                header.set_mode(*mode);
                header.set_size(text.len() as u64);
                builder.append_data(&mut header, path, text.as_bytes())
            }
            Thing::Marked { text, attribute: (name, value) } => {
                header.set_size(text.len() as u64);
                let key = format!("SCHILY.xattr.{name}");
                builder.append_pax_extensions([(key.as_str(), *value)]).and_then(|()| builder.append_data(&mut header, path, text.as_bytes()))
            }
            Thing::Dir { mode } => {
                header.set_mode(*mode);
                header.set_entry_type(tar::EntryType::Directory);
                builder.append_data(&mut header, path, &[][..])
            }
            Thing::Symlink { target } => {
                header.set_mode(0o777);
                header.set_entry_type(tar::EntryType::Symlink);
                builder.append_link(&mut header, path, target)
            }
            Thing::Hard { target } => {
                let mode =
                    things.iter().find_map(|(path, thing, ..)| if let Thing::File { mode, .. } = thing { (path == target).then_some(*mode) } else { None });
                header.set_mode(mode.unwrap_or(0o644));
                header.set_entry_type(tar::EntryType::Link);
                builder.append_link(&mut header, path, target)
            }
            Thing::Fifo => {
                header.set_entry_type(tar::EntryType::Fifo);
                builder.append_data(&mut header, path, &[][..])
            }
            Thing::Tar { .. } => Ok(()),
        };
        added.expect("an entry");
    }
    let plain = builder.into_inner().expect("an archive");
    if !gzip {
        return plain;
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, &plain).expect("compressed");
    encoder.finish().expect("compressed")
}
