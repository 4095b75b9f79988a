//! The files of a bake, and what else it depends on.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use strake_bake::{File, Host, Inputs, dotenv};
use strake_oci::Platform;
use strake_words::GitReference;

use super::allow;
use crate::args::Bake;
use crate::commands::build;
use crate::failure::Failure;

/// Files that nobody names, in the order in which they are merged.
const NAMES: [&str; 8] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
    "docker-bake.json",
    "docker-bake.hcl",
    "docker-bake.override.json",
    "docker-bake.override.hcl",
];
/// A bake file is not longer.
const MAX_BYTES: u64 = 8 << 20;

/// Reads everything that decides what is built. The first word may be a repository that has the files; the words behind it are targets. The directory is that
/// of the first file: its lock file, or one above, is theirs.
pub fn inputs<'a>(root: &Path, args: &'a Bake) -> Result<(Inputs, &'a [String], PathBuf), Failure> {
    let is_repository = |word: &&String| GitReference::looks_like(word) && !(GitReference::is_path_too(word) && Path::new(word).exists());
    let repository = args.targets.first().filter(is_repository);
    let targets = &args.targets[usize::from(repository.is_some())..];
    if let Some(word) = targets.iter().find(|word| word.contains("://")) {
        return Err(Failure::text(format!("`{word}`: only a git repository, as the first word, is supported here")).with_code(2));
    }
    let folder = repository.map(|url| build::repository(root, url, args.offline)).transpose()?;
    let environment: BTreeMap<String, String> =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect();
    let variables = args.variables.iter().map(|word| variable(word)).collect::<Result<BTreeMap<_, _>, _>>()?;
    let (files, dir) = files(args, &environment, folder.as_deref())?;
    let dotenv = match std::fs::read_to_string(".env") {
        Ok(text) => dotenv(&text, &environment).map_err(|why| Failure::text(format!(".env: {why}")))?,
        Err(_) => BTreeMap::new(),
    };
    let host = Host { now_s: now(), home: environment.get("HOME").cloned().unwrap_or_else(|| "/".to_owned()), seed: seed(), ..Host::default() };
    let blind = environment.get("BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP").is_some_and(|value| matches!(value.as_str(), "1" | "true"));
    let environment = if blind { BTreeMap::new() } else { environment };
    let (local_platform, repository) = (Platform::host().to_string(), repository.cloned());
    let mut inputs = Inputs { files, variables, environment, dotenv, env_files: BTreeMap::new(), included: BTreeMap::new(), repository, local_platform, host };
    include(&mut inputs, args, folder.as_deref())?;
    for name in strake_bake::env_files(&inputs) {
        if let Ok(text) = std::fs::read_to_string(&name) {
            inputs.env_files.insert(name, text);
        }
    }
    Ok((inputs, targets, dir))
}

/// Reads what compose files include, and what that includes.
fn include(inputs: &mut Inputs, args: &Bake, folder: Option<&Path>) -> Result<(), Failure> {
    loop {
        let wanted = strake_bake::includes(inputs);
        if wanted.is_empty() {
            return Ok(());
        }
        for name in wanted {
            let path = folder.map_or_else(|| PathBuf::from(&name), |folder| folder.join(&name));
            let text = if path.is_file() {
                match folder {
                    Some(folder) => drop(inside(folder, &name)?),
                    None => allow::read(&path, args, &inputs.environment)?,
                }
                Some(read(&name, &path)?.text)
            } else {
                None
            };
            inputs.included.insert(name, text);
        }
    }
}

fn variable(word: &str) -> Result<(String, String), Failure> {
    match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Failure::text(format!("--var {word}: expected NAME=VALUE")).with_code(2)),
    }
}

/// The files that `-f` names, or BUILDX_BAKE_FILE; else those of the usual names that are here. Of a repository, those in its folder. And where the first is.
fn files(args: &Bake, environment: &BTreeMap<String, String>, folder: Option<&Path>) -> Result<(Vec<File>, PathBuf), Failure> {
    let separator = environment.get("BUILDX_BAKE_PATH_SEPARATOR").filter(|text| !text.is_empty()).map_or(":", String::as_str);
    let words = |list: &String| list.split(separator).map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
    let named: Vec<String> = if args.files.is_empty() { environment.get("BUILDX_BAKE_FILE").map(words).unwrap_or_default() } else { args.files.clone() };
    let place = |name: &str| match (name.strip_prefix("cwd://"), folder) {
        (Some(name), _) => Ok(PathBuf::from(name)),
        (None, Some(folder)) if name != "-" => inside(folder, name),
        (None, _) => Ok(PathBuf::from(name)),
    };
    let folder_of = |path: &Path| path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
    if !named.is_empty() {
        let files = named.iter().map(|name| read(name.strip_prefix("cwd://").unwrap_or(name), &place(name)?)).collect::<Result<_, _>>()?;
        let first = named.iter().find(|name| *name != "-").map(|name| place(name)).transpose()?;
        return Ok((files, first.map_or_else(|| PathBuf::from("."), |first| folder_of(&first))));
    }
    let found: Vec<&str> = NAMES.into_iter().filter(|name| folder.unwrap_or(Path::new("")).join(name).is_file()).collect();
    if found.is_empty() {
        return Err(Failure::text(format!("there is none of {} here: name a file with -f", NAMES.join(", "))));
    }
    let files = found.into_iter().map(|name| read(name, &place(name)?)).collect::<Result<_, _>>()?;
    Ok((files, folder.map_or_else(|| PathBuf::from("."), Path::to_owned)))
}

/// Whether a directory has a file that is found without being named.
pub fn any_in(dir: &Path) -> bool {
    NAMES.into_iter().any(|name| dir.join(name).is_file())
}

/// A file of a repository: its links do not lead out of it.
fn inside(folder: &Path, name: &str) -> Result<PathBuf, Failure> {
    let path = std::fs::canonicalize(folder.join(name)).map_err(|source| Failure::read(Path::new(name), source))?;
    let folder = std::fs::canonicalize(folder)?;
    if path.starts_with(&folder) { Ok(path) } else { Err(Failure::text(format!("{name} leads out of the repository"))) }
}

fn read(name: &str, path: &Path) -> Result<File, Failure> {
    let mut bytes = Vec::new();
    let wrong = |source| Failure::read(Path::new(name), source);
    if name == "-" {
        std::io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(wrong)?;
    } else {
        std::fs::File::open(path).map_err(wrong)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(wrong)?;
    }
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Failure::text(format!("{name} is longer than {MAX_BYTES} bytes: is it a bake file?")));
    }
    let text = String::from_utf8(bytes).map_err(|_| Failure::text(format!("{name} is not UTF-8 text: is it a bake file?")))?;
    Ok(File { name: name.to_owned(), text })
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| i64::try_from(time.as_secs()).unwrap_or_default())
}

/// Chance, for `uuidv4()`.
fn seed() -> [u8; 16] {
    let mut seed = [0; 16];
    // Without it the identifiers are the same each time, which is no harm.
    let _ = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut seed));
    seed
}
