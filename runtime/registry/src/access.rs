//! Who we are to a registry: a token of its token service, or user and password.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{RequestBuilder, Url};
use serde::Deserialize;

use crate::challenge::{Challenge, is_own_realm, parse};
use crate::credentials::{self, Login};
use crate::endpoint::{Endpoint, Operation, refusal};
use crate::error::RegistryError;

/// A token service's answer is never longer.
const MAX_TOKEN_BYTES: u64 = 1 << 20;
/// By which token services know this program.
const CLIENT_ID: &str = "strake";

/// The header that requests carry, once the registry has asked for one.
pub(crate) struct Access {
    header: Mutex<Option<HeaderValue>>,
    scopes: Mutex<Vec<String>>,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
}

impl Access {
    pub(crate) fn new(repository: &str, operation: Operation) -> Self {
        let rights = if operation == Operation::Push { "pull,push" } else { "pull" };
        Access { header: Mutex::default(), scopes: Mutex::new(vec![format!("repository:{repository}:{rights}")]) }
    }

    pub(crate) fn also_read(&self, repository: &str) {
        let scope = format!("repository:{repository}:pull");
        let mut scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }

    pub(crate) fn header(&self) -> Option<HeaderValue> {
        self.header.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers a registry's challenges; false when there is nothing that could be answered, or nothing better than before.
    pub(crate) async fn renew(
        &self,
        endpoint: &Endpoint,
        base: &Url,
        named: &[String],
        docker_config: Option<&Path>,
        challenges: &[String],
    ) -> Result<bool, RegistryError> {
        let challenges: Vec<Challenge> = challenges.iter().flat_map(|value| parse(value)).collect();
        let of = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        let header = if let Some(bearer) = of("bearer") {
            let login = credentials::find(&endpoint.host, docker_config).await?;
            Some(self.token(endpoint, base, named, bearer, &login).await?)
        } else if of("basic").is_some() {
            match credentials::find(&endpoint.host, docker_config).await? {
                Login::Basic(user, password) => Some(basic(endpoint, &user, &password)?),
                Login::Anonymous | Login::Identity(_) => None,
            }
        } else {
            None
        };
        let mut current = self.header.lock().unwrap_or_else(PoisonError::into_inner);
        let better = header.is_some() && header != *current;
        if better {
            *current = header;
        }
        Ok(better)
    }

    async fn token(&self, endpoint: &Endpoint, base: &Url, named: &[String], challenge: &Challenge, login: &Login) -> Result<HeaderValue, RegistryError> {
        let realm = challenge.get("realm").unwrap_or_default();
        let realm = Url::parse(realm).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let mut realm = realm.ok_or_else(|| endpoint.protocol("its token service has no address"))?;
        if base.scheme() == "https" && realm.scheme() == "http" {
            return Err(RegistryError::Redirect { host: endpoint.host.clone(), reason: "its token service is asked in plain HTTP".to_owned() });
        }
        let _ = realm.set_username("");
        let _ = realm.set_password(None);
        if *login != Login::Anonymous && !is_own_realm(base, &realm, named) {
            let place = realm.host_str().unwrap_or_default().to_owned();
            let realm = realm.port().map_or_else(|| place.clone(), |port| format!("{place}:{port}"));
            return Err(RegistryError::Realm { host: endpoint.host.clone(), realm });
        }
        let request = self.token_request(endpoint, &realm, challenge, login)?;
        let response = request.send().await.map_err(|error| endpoint.unreachable(error))?;
        if !response.status().is_success() {
            // Redirects are not followed: the login would go with them.
            let mut source = refusal(response).await;
            if source.status == 404 {
                source.status = 401;
            }
            return Err(RegistryError::refused(&endpoint.host, &endpoint.name, source));
        }
        let bytes = endpoint.body(response, MAX_TOKEN_BYTES).await?.ok_or_else(|| endpoint.protocol("its token service's answer is too long"))?;
        let answer: Answer = serde_json::from_slice(&bytes).map_err(|_| endpoint.protocol("its token service's answer is no token"))?;
        let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| endpoint.protocol("its token service's answer holds no token"))?;
        secret(format!("Bearer {token}")).ok_or_else(|| endpoint.protocol("its token service gave a token that no header can carry"))
    }

    fn token_request(&self, endpoint: &Endpoint, realm: &Url, challenge: &Challenge, login: &Login) -> Result<RequestBuilder, RegistryError> {
        let client = endpoint.client(realm)?;
        let scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let service = challenge.get("service").unwrap_or_default();
        let mut url = realm.clone();
        if let Login::Identity(token) = login {
            let scope = scopes.join(" ");
            let form = Url::parse_with_params(
                "http://form/",
                [("grant_type", "refresh_token"), ("service", service), ("scope", scope.as_str()), ("client_id", CLIENT_ID), ("refresh_token", token.as_str())],
            );
            let form = form.ok().and_then(|url| url.query().map(str::to_owned)).unwrap_or_default();
            return Ok(client.post(url).header("content-type", "application/x-www-form-urlencoded").body(form));
        }
        {
            let mut query = url.query_pairs_mut();
            if !service.is_empty() {
                query.append_pair("service", service);
            }
            scopes.iter().for_each(|scope| {
                query.append_pair("scope", scope);
            });
            query.append_pair("client_id", CLIENT_ID);
        }
        Ok(match login {
            Login::Basic(user, password) => client.get(url).header(AUTHORIZATION, basic(endpoint, user, password)?),
            _ => client.get(url),
        })
    }
}

fn basic(endpoint: &Endpoint, user: &str, password: &str) -> Result<HeaderValue, RegistryError> {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    secret(format!("Basic {text}")).ok_or_else(|| endpoint.protocol("the stored login fits no header"))
}

/// A header's value that is left out of every debug output.
fn secret(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
