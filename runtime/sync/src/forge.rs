//! Commit statuses, as GitHub, GitLab and Gitea take them: which request says how a commit fared.

use serde_json::{Value, json};
use strake_words::{GitReference, GitScheme};

/// Whose API it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// GitHub and GitHub Enterprise.
    Github,
    /// GitLab.
    Gitlab,
    /// Gitea and Forgejo.
    Gitea,
}

impl Provider {
    /// Reads `github`, `gitlab`, `gitea`.
    pub fn parse(word: &str) -> Option<Provider> {
        match word {
            "github" => Some(Provider::Github),
            "gitlab" => Some(Provider::Gitlab),
            "gitea" => Some(Provider::Gitea),
            _ => None,
        }
    }

    /// The one that a machine of this name surely runs.
    fn of_host(host: &str) -> Option<Provider> {
        match host {
            "github.com" => Some(Provider::Github),
            "gitlab.com" => Some(Provider::Gitlab),
            "codeberg.org" | "gitea.com" => Some(Provider::Gitea),
            _ => None,
        }
    }

    /// Where the API is on a machine of one's own.
    fn api(self, host: &str) -> String {
        match self {
            Provider::Github if host == "github.com" => "https://api.github.com".to_owned(),
            Provider::Github => format!("https://{host}/api/v3"),
            Provider::Gitlab => format!("https://{host}/api/v4"),
            Provider::Gitea => format!("https://{host}/api/v1"),
        }
    }
}

/// How a commit fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is being deployed.
    Pending,
    /// It runs.
    Success,
    /// It does not.
    Failure,
}

impl Fate {
    /// The word that a status keeps.
    pub fn as_str(self) -> &'static str {
        match self {
            Fate::Pending => "pending",
            Fate::Success => "success",
            Fate::Failure => "failure",
        }
    }
}

/// Where statuses go, and in which form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forge {
    /// Whose API it is.
    pub provider: Provider,
    /// The API's address, without a slash at its end.
    pub api: String,
    /// `owner/name`.
    pub project: String,
    /// What the status is called there.
    pub context: String,
}

/// A request to be sent. It has a token in it: it is not for showing.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// The address, for POST.
    pub url: String,
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body, JSON.
    pub body: Value,
}

/// The longest description that all of them take, in characters.
const LONGEST: usize = 140;

impl Forge {
    /// The forge of a repository; what is given counts more than what its address says.
    ///
    /// # Errors
    /// What has to be said, because the address does not.
    pub fn of(repository: &str, provider: Option<Provider>, api: &str, project: &str, context: &str) -> Result<Forge, String> {
        let parsed = GitReference::parse(repository).map_err(|error| error.to_string())?;
        let provider = provider.or_else(|| Provider::of_host(&parsed.host));
        let provider = provider.ok_or_else(|| format!("nothing says whose API {} has: give provider (github, gitlab or gitea)", parsed.host))?;
        let api = if api.is_empty() { provider.api(&parsed.host) } else { api.trim_end_matches('/').to_owned() };
        let project = if project.is_empty() { path_of(&parsed) } else { project.trim_matches('/').to_owned() };
        if project.split('/').filter(|part| !part.is_empty()).count() < 2 {
            return Err(format!("the address {} does not say which project it is: give project (OWNER/NAME)", parsed.shown()));
        }
        Ok(Forge { provider, api, project, context: context.to_owned() })
    }

    /// The request that says how a commit fares.
    pub fn request(&self, token: &str, commit: &str, fate: Fate, description: &str) -> Request {
        let description: String = description.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
        let Forge { provider, api, project, context } = self;
        let escaped: String = project
            .split('/')
            .map(|part| form_urlencoded::byte_serialize(part.as_bytes()).collect::<String>().replace('+', "%20"))
            .collect::<Vec<_>>()
            .join("/");
        let named = format!("{api}/repos/{escaped}/statuses/{commit}");
        let state = fate.as_str();
        match provider {
            Provider::Github => Request {
                url: named,
                headers: vec![
                    ("authorization", format!("Bearer {token}")),
                    ("accept", "application/vnd.github+json".to_owned()),
                    ("x-github-api-version", "2022-11-28".to_owned()),
                ],
                body: json!({"state": state, "context": context, "description": description}),
            },
            Provider::Gitea => Request {
                url: named,
                headers: vec![("authorization", format!("token {token}")), ("accept", "application/json".to_owned())],
                body: json!({"state": state, "context": context, "description": description}),
            },
            Provider::Gitlab => {
                let state = match fate {
                    Fate::Pending => "running",
                    Fate::Success => "success",
                    Fate::Failure => "failed",
                };
                Request {
                    url: format!("{api}/projects/{}/statuses/{commit}", escaped.replace('/', "%2F")),
                    headers: vec![("private-token", token.to_owned()), ("accept", "application/json".to_owned())],
                    body: json!({"state": state, "name": context, "description": description}),
                }
            }
        }
    }
}

/// `owner/name` of an address.
fn path_of(parsed: &GitReference) -> String {
    let remote = parsed.remote.as_str();
    let path = match remote.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
        None if parsed.scheme == GitScheme::Ssh => remote.split_once(':').map_or("", |(_, path)| path),
        None => "",
    };
    path.trim_matches('/').trim_end_matches(".git").to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Fate, Forge, Provider};

    #[test]
    fn the_address_says_which_project_it_is() {
        for (address, provider, api, project) in [
            ("https://github.com/shop/web.git", Provider::Github, "https://api.github.com", "shop/web"),
            ("git@gitlab.com:group/inner/web.git", Provider::Gitlab, "https://gitlab.com/api/v4", "group/inner/web"),
            ("ssh://git@codeberg.org/shop/web", Provider::Gitea, "https://codeberg.org/api/v1", "shop/web"),
        ] {
            let forge = Forge::of(address, None, "", "", "strake/web").expect(address);
            assert_eq!((forge.provider, forge.api.as_str(), forge.project.as_str()), (provider, api, project));
        }
        assert!(Forge::of("https://git.example/shop/web.git", None, "", "", "x").expect_err("whose?").contains("give provider"));
        assert!(Forge::of("https://git.example/web.git", Some(Provider::Gitea), "", "", "x").expect_err("which?").contains("give project"));
        let own = Forge::of("https://git.example/shop/web.git", Some(Provider::Github), "", "", "x").expect("one's own");
        assert_eq!(own.api, "https://git.example/api/v3");
    }

    #[test]
    fn each_forge_gets_its_form() {
        let of = |provider| Forge { provider, api: "https://h/api".to_owned(), project: "a b/c".to_owned(), context: "strake/web".to_owned() };
        let commit = "0".repeat(40);
        let request = of(Provider::Github).request("t", &commit, Fate::Failure, &"long\n".repeat(100));
        assert_eq!(request.url, format!("https://h/api/repos/a%20b/c/statuses/{commit}"));
        assert_eq!(request.headers[0], ("authorization", "Bearer t".to_owned()));
        assert_eq!((request.body["state"].as_str(), request.body["description"].as_str().map(|text| text.chars().count())), (Some("failure"), Some(140)));
        let request = of(Provider::Gitlab).request("t", &commit, Fate::Failure, "x");
        assert_eq!(request.url, format!("https://h/api/projects/a%20b%2Fc/statuses/{commit}"));
        assert_eq!(
            (request.headers[0].0, request.body["state"].as_str(), request.body["name"].as_str()),
            ("private-token", Some("failed"), Some("strake/web"))
        );
        assert_eq!(of(Provider::Gitea).request("t", &commit, Fate::Pending, "x").headers[0].1, "token t");
    }
}
