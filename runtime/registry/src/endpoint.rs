//! One registry (or mirror) as it is spoken to: its address, who we are to it, redirects, and what its answers mean.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::redirect::Policy;
use reqwest::{Body, Certificate, Client, ClientBuilder, Method, Response, Url};
use tokio::sync::Mutex;

use crate::access::Access;
use crate::address::{Guarded, Reach, forbidden, is_this_machine};
use crate::error::{Refusal, RegistryError};
use crate::pull::PullOptions;
use crate::registries::{HostSettings, Mirror};
use crate::retry::retry_after;

/// Redirects that are followed one after the other.
const MAX_REDIRECTS: usize = 5;
/// Of an error's body, so much is looked at.
const MAX_ERROR_BYTES: u64 = 64 << 10;
/// And it is not waited for any longer.
const WORDS_TIMEOUT: Duration = Duration::from_secs(5);
/// Of a registry's own words, so many characters are shown.
const MAX_WORDS: usize = 300;

/// What is done with the repository: decides which rights are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Pull,
    Push,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub method: Method,
    pub url: Url,
    pub headers: Vec<(&'static str, String)>,
    pub payload: Payload,
    /// Until the answer begins.
    pub timeout: Duration,
}

/// What a request carries.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    None,
    Bytes(Bytes),
    /// A part of a file.
    Part {
        file: Arc<File>,
        start: u64,
        length: u64,
    },
}

/// A registry, for one repository.
pub(crate) struct Endpoint {
    /// As images call it.
    pub(crate) host: String,
    /// The reference that is pulled or pushed, for messages.
    pub(crate) name: String,
    base: Url,
    repository: String,
    own: Client,
    elsewhere: OnceLock<Client>,
    reach: Reach,
    settings: HostSettings,
    options: PullOptions,
    access: Access,
    /// One login at a time.
    renewing: Mutex<()>,
}

impl Endpoint {
    /// The registry itself.
    pub(crate) fn of(
        host: &str,
        repository: &str,
        name: &str,
        operation: Operation,
        settings: HostSettings,
        options: &PullOptions,
    ) -> Result<Self, RegistryError> {
        let mirror = Mirror { host: host.to_owned(), path: String::new(), plain: false };
        Self::mirror(&mirror, repository, name, operation, settings, options)
    }

    /// A mirror of it.
    pub(crate) fn mirror(
        mirror: &Mirror,
        repository: &str,
        name: &str,
        operation: Operation,
        settings: HostSettings,
        options: &PullOptions,
    ) -> Result<Self, RegistryError> {
        let host = mirror.host.clone();
        let real = if host == "docker.io" { "registry-1.docker.io" } else { &host };
        let certified = settings.ca.is_some() || settings.skip_verify;
        let plain = mirror.plain || settings.insecure || options.insecure_hosts.contains(&host) || (is_this_machine(&host) && !certified);
        let text = format!("{}://{real}/v2/", if plain { "http" } else { "https" });
        let broken = |reason: String| RegistryError::Protocol { host: host.clone(), reason };
        let base = Url::parse(&text).map_err(|_| broken(format!("{text} is no address")))?;
        let reach = if is_this_machine(&host) { Reach::Machine } else { Reach::Elsewhere };
        if let Some(address) = Reach::Machine.refused(&base) {
            return Err(RegistryError::Forbidden { host, address });
        }
        let repository = if mirror.path.is_empty() { repository.to_owned() } else { format!("{}/{repository}", mirror.path) };
        let own = client(&host, &settings, options, Reach::Machine, settings.skip_verify)?;
        let access = Access::new(&repository, operation);
        Ok(Endpoint {
            host,
            name: name.to_owned(),
            base,
            repository,
            own,
            elsewhere: OnceLock::new(),
            reach,
            settings,
            options: options.clone(),
            access,
            renewing: Mutex::default(),
        })
    }

    /// Asks for the right to read another repository of this registry too, with the next login.
    pub(crate) fn also_read(&self, repository: &str) {
        self.access.also_read(repository);
    }

    /// An address below the repository's.
    pub(crate) fn url(&self, path: &str) -> Result<Url, RegistryError> {
        let text = format!("{}/{path}", self.repository);
        self.base.join(&text).map_err(|_| RegistryError::Protocol { host: self.host.clone(), reason: format!("{text} is no address") })
    }

    /// A request to the repository without a body.
    pub(crate) fn ask(&self, method: Method, path: &str) -> Result<Ask, RegistryError> {
        Ok(Ask { method, url: self.url(path)?, headers: Vec::new(), payload: Payload::None, timeout: self.options.manifest_timeout })
    }

    /// Sends a request, logging in where that is asked for. Gives the answer when it is a success or among the statuses `also`.
    ///
    /// # Errors
    /// Everything else that is answered, sorted out.
    pub(crate) async fn send(&self, ask: &Ask, also: &[u16]) -> Result<Response, RegistryError> {
        let mut renewed = false;
        loop {
            let used = self.access.header();
            let response = self.followed(ask, used.as_ref()).await?;
            // A host that the registry led to cannot ask for its login.
            let own = self.is_own(response.url());
            if response.status().as_u16() == 401 && own && !renewed {
                renewed = true;
                let challenges: Vec<String> =
                    response.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok().map(str::to_owned)).collect();
                if self.renew(used.as_ref(), &challenges).await? {
                    continue;
                }
            }
            if response.status().is_success() || also.contains(&response.status().as_u16()) {
                return Ok(response);
            }
            let refusal = refusal(response).await;
            return Err(RegistryError::refused(&self.host, &self.name, refusal));
        }
    }

    /// Gets a login that is newer than the one that was used; false when there is none to be had.
    async fn renew(&self, used: Option<&HeaderValue>, challenges: &[String]) -> Result<bool, RegistryError> {
        let _alone = self.renewing.lock().await;
        if self.access.header().as_ref() != used {
            return Ok(true);
        }
        self.access.renew(self, &self.base, &self.settings.auth, self.options.docker_config.as_deref(), challenges).await
    }

    /// Sends a request and follows where it leads to, without the login on other hosts.
    async fn followed(&self, ask: &Ask, login: Option<&HeaderValue>) -> Result<Response, RegistryError> {
        let mut url = ask.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.once(ask, &url, login).await?;
            let follows = match response.status().as_u16() {
                // The same request, its body included, is meant for another place (RFC 9110, 15.4.8 and 15.4.9).
                307 | 308 => true,
                300..=399 => matches!(ask.method, Method::GET | Method::HEAD),
                _ => false,
            };
            let Some(location) = response.headers().get(LOCATION).filter(|_| follows) else { return Ok(response) };
            url = self.led_to(&url, location)?;
        }
        Err(self.astray(format!("more than {MAX_REDIRECTS} one after the other")))
    }

    async fn once(&self, ask: &Ask, url: &Url, login: Option<&HeaderValue>) -> Result<Response, RegistryError> {
        let own = self.is_own(url);
        let mut request = self.client(url)?.request(ask.method.clone(), url.clone());
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        if let Some(login) = login.filter(|_| own) {
            request = request.header(AUTHORIZATION, login);
        }
        request = match &ask.payload {
            Payload::None if ask.method == Method::GET || ask.method == Method::HEAD => request,
            Payload::None => request.header(CONTENT_LENGTH, 0),
            Payload::Bytes(bytes) => request.body(bytes.clone()),
            Payload::Part { file, start, length } => request.header(CONTENT_LENGTH, *length).body(part(Arc::clone(file), *start, *length)),
        };
        match tokio::time::timeout(ask.timeout, request.send()).await {
            Err(_) => Err(RegistryError::Timeout { host: self.host.clone(), timeout: ask.timeout }),
            Ok(sent) => sent.map_err(|error| self.unreachable(error)),
        }
    }

    /// The client for an address: that of the registry itself, or one that reaches less.
    pub(crate) fn client(&self, url: &Url) -> Result<&Client, RegistryError> {
        if self.is_own(url) {
            return Ok(&self.own);
        }
        if let Some(address) = self.reach.refused(url) {
            return Err(RegistryError::Forbidden { host: self.host.clone(), address });
        }
        if let Some(client) = self.elsewhere.get() {
            return Ok(client);
        }
        let made = client(&self.host, &self.settings, &self.options, self.reach, false)?;
        Ok(self.elsewhere.get_or_init(|| made))
    }

    fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// Where an address in an answer leads to from `from`.
    pub(crate) fn led_to(&self, from: &Url, location: &HeaderValue) -> Result<Url, RegistryError> {
        let next = location.to_str().ok().and_then(|text| from.join(text).ok()).filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let mut next = next.ok_or_else(|| self.astray("it is no http or https address".to_owned()))?;
        if from.scheme() == "https" && next.scheme() == "http" {
            return Err(self.astray("it leads from https to http".to_owned()));
        }
        // A login in an address is nobody's we know.
        let _ = next.set_username("");
        let _ = next.set_password(None);
        Ok(next)
    }

    fn astray(&self, reason: String) -> RegistryError {
        RegistryError::Redirect { host: self.host.clone(), reason }
    }

    /// Sorts out what the client reports.
    pub(crate) fn unreachable(&self, error: reqwest::Error) -> RegistryError {
        match forbidden(&error) {
            Some(address) => RegistryError::Forbidden { host: self.host.clone(), address },
            None => RegistryError::Unreachable { host: self.host.clone(), source: error.without_url() },
        }
    }

    /// A whole answer in memory; `None` when it is longer than `max_bytes`, which is found out without reading it all.
    pub(crate) async fn body(&self, response: Response, max_bytes: u64) -> Result<Option<Vec<u8>>, RegistryError> {
        let timeout = self.options.manifest_timeout;
        match tokio::time::timeout(timeout, bounded(response, max_bytes)).await {
            Err(_) => Err(RegistryError::Timeout { host: self.host.clone(), timeout }),
            Ok(read) => read.map_err(|error| self.unreachable(error)),
        }
    }

    pub(crate) fn protocol(&self, reason: impl Into<String>) -> RegistryError {
        RegistryError::Protocol { host: self.host.clone(), reason: reason.into() }
    }
}

async fn bounded(response: Response, max_bytes: u64) -> reqwest::Result<Option<Vec<u8>>> {
    if response.content_length().is_some_and(|length| length > max_bytes) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let mut body = response.bytes_stream();
    while let Some(piece) = body.next().await {
        bytes.extend_from_slice(&piece?);
        if bytes.len() as u64 > max_bytes {
            return Ok(None);
        }
    }
    Ok(Some(bytes))
}

/// What a registry says instead of what was asked.
pub(crate) async fn refusal(response: Response) -> Refusal {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<Error>,
    }
    #[derive(serde::Deserialize)]
    struct Error {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let status = response.status().as_u16();
    let text_of = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let retry_after = text_of(RETRY_AFTER).and_then(|value| retry_after(value, jiff::Timestamp::now()));
    let json = text_of(CONTENT_TYPE).is_some_and(|kind| kind.contains("json"));
    let words = tokio::time::timeout(WORDS_TIMEOUT, bounded(response, MAX_ERROR_BYTES)).await;
    let bytes = words.ok().and_then(Result::ok).flatten().unwrap_or_default();
    let first = serde_json::from_slice::<Errors>(&bytes).ok().and_then(|errors| errors.errors.into_iter().next());
    let shown = |text: &str| {
        let line: String = text.chars().map(|character| if character.is_control() { ' ' } else { character }).take(MAX_WORDS).collect();
        line.trim().to_owned()
    };
    match first {
        Some(Error { code, message }) => Refusal { status, code: Some(shown(&code)).filter(|code| !code.is_empty()), message: shown(&message), retry_after },
        None if json => Refusal { status, code: None, message: String::new(), retry_after },
        None => Refusal { status, code: None, message: shown(&String::from_utf8_lossy(&bytes)), retry_after },
    }
}

fn client(host: &str, settings: &HostSettings, options: &PullOptions, reach: Reach, skip_verify: bool) -> Result<Client, RegistryError> {
    // Fails when the process has a provider already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder: ClientBuilder = Client::builder()
        .connect_timeout(options.connect_timeout)
        // Not the client's own time limit for reading: it runs while a body is sent.
        .user_agent(concat!("strake/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .referer(false)
        .tls_danger_accept_invalid_certs(skip_verify)
        .dns_resolver(Arc::new(Guarded::new(reach)));
    if let Some(path) = &settings.ca {
        let pem = std::fs::read(path).map_err(|source| RegistryError::Authorities { host: host.to_owned(), path: path.clone(), source })?;
        let trusted =
            Certificate::from_pem_bundle(&pem).map_err(|source| RegistryError::AuthoritiesDecode { host: host.to_owned(), path: path.clone(), source })?;
        builder = builder.tls_certs_merge(trusted);
    }
    builder.build().map_err(|source| RegistryError::Client { host: host.to_owned(), source })
}

/// A part of a file as a request's body.
fn part(file: Arc<File>, start: u64, length: u64) -> Body {
    const PIECE_BYTES: u64 = 512 << 10;
    Body::wrap_stream(futures::stream::try_unfold((start, length), move |(at, left)| {
        let file = Arc::clone(&file);
        async move {
            if left == 0 {
                return Ok::<_, std::io::Error>(None);
            }
            let wanted = usize::try_from(left.min(PIECE_BYTES)).unwrap_or_default();
            let reading = tokio::task::spawn_blocking(move || {
                let mut piece = vec![0; wanted];
                let got = file.read_at(&mut piece, at)?;
                piece.truncate(got);
                Ok::<_, std::io::Error>(piece)
            });
            let piece = reading.await.map_err(std::io::Error::other)??;
            if piece.is_empty() {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let got = piece.len() as u64;
            Ok(Some((Bytes::from(piece), (at + got, left - got))))
        }
    }))
}
