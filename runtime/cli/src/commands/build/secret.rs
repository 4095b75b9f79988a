//! `--secret` and `--ssh`: what only whoever runs the build knows.

use std::collections::BTreeMap;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use strake_build::{AgentSocket, SecretValue};

use super::agent::KeyAgent;
use crate::failure::Failure;

/// Larger secrets are refused (as BuildKit does).
const MAX_BYTES: u64 = 500 << 10;

/// Where a value is.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    File(PathBuf),
    Variable(String),
}

/// Reads what `--secret` names, by id.
pub fn secrets(words: &[String]) -> Result<BTreeMap<String, SecretValue>, Failure> {
    let mut secrets = BTreeMap::new();
    for word in words {
        let (id, place) = parse(word, &|name| std::env::var_os(name).is_some())?;
        secrets.insert(id.clone(), SecretValue::new(read(&id, &place)?));
    }
    Ok(secrets)
}

fn parse(word: &str, is_set: &dyn Fn(&str) -> bool) -> Result<(String, Place), Failure> {
    let wrong = |what: String| Failure::text(format!("--secret {word}: {what}")).with_code(2);
    let (mut id, mut kind, mut file, mut variable) = ("", "", None, None);
    for part in word.split(',') {
        match part.split_once('=') {
            Some(("id", value)) => id = value,
            Some(("type", value @ ("file" | "env"))) => kind = value,
            Some(("src" | "source", value)) => file = Some(value),
            Some(("env", value)) => variable = Some(value),
            _ => return Err(wrong(format!("`{part}` is not understood: expected id=ID,src=FILE or id=ID,env=NAME"))),
        }
    }
    if id.is_empty() {
        return Err(wrong("the id is missing, as in id=ID,src=FILE".to_owned()));
    }
    let place = match (file, variable, kind) {
        (Some(_), Some(_), _) => return Err(wrong("it is either a file or a variable".to_owned())),
        (_, Some(name), "" | "env") => Place::Variable(name.to_owned()),
        // As buildx has it: with type=env the source is a variable's name.
        (Some(name), None, "env") => Place::Variable(name.to_owned()),
        (Some(path), None, _) => Place::File(path.into()),
        (None, None, "env") => Place::Variable(id.to_owned()),
        (None, None, "") if is_set(id) => Place::Variable(id.to_owned()),
        (None, None, _) => Place::File(id.into()),
        (None, Some(_), _) => return Err(wrong("a variable is not of type=file".to_owned())),
    };
    Ok((id.to_owned(), place))
}

fn read(id: &str, place: &Place) -> Result<Vec<u8>, Failure> {
    let value = match place {
        Place::Variable(name) => {
            let value = std::env::var_os(name).ok_or_else(|| Failure::text(format!("--secret {id}: the variable {name} is not set")))?;
            std::os::unix::ffi::OsStringExt::into_vec(value)
        }
        Place::File(path) => {
            let file = std::fs::File::open(path).map_err(|source| Failure::read(path, source))?;
            let mut value = Vec::new();
            std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_BYTES + 1), &mut value).map_err(|source| Failure::read(path, source))?;
            value
        }
    };
    if value.len() as u64 > MAX_BYTES {
        return Err(Failure::text(format!("--secret {id}: it has more than the {MAX_BYTES} bytes allowed")));
    }
    Ok(value)
}

/// Reads `--ssh`: `ID`, `ID=SOCKET`, or `ID=KEY[,KEY…]`.
pub fn agents(words: &[String]) -> Result<BTreeMap<String, AgentSocket>, Failure> {
    let mut agents = BTreeMap::new();
    for word in words {
        let (id, places) = word.split_once('=').map_or((word.as_str(), None), |(id, places)| (id, Some(places)));
        let places: Vec<PathBuf> = match places.filter(|places| !places.is_empty()) {
            Some(places) => places.split(',').map(PathBuf::from).collect(),
            None => {
                let own = std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).map(PathBuf::from);
                let missing = || Failure::text(format!("--ssh {word}: SSH_AUTH_SOCK is not set: start an agent, or name its socket or a key as in {id}=PATH"));
                vec![own.ok_or_else(missing)?]
            }
        };
        let sockets = places.iter().map(|place| is_socket(place)).collect::<Result<Vec<_>, _>>()?;
        let socket = match sockets.as_slice() {
            [true] => AgentSocket::from(places[0].clone()),
            sockets if sockets.contains(&true) => {
                return Err(Failure::text(format!("--ssh {word}: an id stands for one agent, or for keys in files, not for both")).with_code(2));
            }
            _ => {
                let agent = KeyAgent::of(word, &places)?;
                AgentSocket { path: agent.socket(), keeps: Some(agent) }
            }
        };
        agents.insert(if id.is_empty() { "default" } else { id }.to_owned(), socket);
    }
    Ok(agents)
}

fn is_socket(path: &Path) -> Result<bool, Failure> {
    let metadata = std::fs::metadata(path).map_err(|source| Failure::read(path, source))?;
    Ok(metadata.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::{Place, parse};

    #[test]
    fn secrets_are_files_or_variables() {
        let of = |word: &str| parse(word, &|name| name == "SET").map(|(id, place)| (id.leak() as &str, place));
        let file = |path: &str| Place::File(path.into());
        let variable = |name: &str| Place::Variable(name.to_owned());
        for (word, id, place) in [
            ("id=a,src=/f", "a", file("/f")),
            ("id=a,source=f", "a", file("f")),
            ("id=a,env=B", "a", variable("B")),
            ("id=a,type=env,src=B", "a", variable("B")),
            ("id=SET", "SET", variable("SET")),
            ("id=SET,type=file", "SET", file("SET")),
            ("id=a", "a", file("a")),
            ("type=env,id=a", "a", variable("a")),
        ] {
            assert_eq!(of(word).unwrap_or_else(|error| panic!("{word}: {error}")), (id, place), "{word}");
        }
        for word in ["src=/f", "id=a,src=b,env=c", "id=a,x=y", "id=a,type=odd", "id=a,type=file,env=b", ""] {
            assert!(of(word).is_err(), "{word}");
        }
    }
}
