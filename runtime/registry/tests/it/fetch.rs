//! Single files for ADD.

use strake_oci::Digest;
use strake_registry::{FetchError, Fetched, FileRequest, PullOptions, Validator, fetch};

use crate::mock::{Answer, Mock};

async fn get(url: &str, expected: Option<&Digest>) -> (Result<Digest, FetchError>, Option<Vec<u8>>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let outcome = fetch(url, FileRequest { expected, ..FileRequest::default() }, &path, &PullOptions::default()).await;
    let digest = outcome.map(|fetched| match fetched {
        Fetched::File(digest, _) => digest,
        Fetched::Unchanged => panic!("nothing was known before"),
    });
    (digest, std::fs::read(path).ok())
}

#[tokio::test]
async fn a_file_that_is_known_is_asked_about_and_not_sent_again() {
    let mock = Mock::start().await;
    let url = format!("http://{}/f", mock.host);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let ask = async |known: Option<&Validator>| fetch(&url, FileRequest { known, ..FileRequest::default() }, &path, &PullOptions::default()).await;
    mock.on(
        "/f",
        Answer::ok("text/plain", b"one")
            .with("ETag", "\"v1\"")
            .with("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")
            .with("Date", "Mon, 07 Nov 1994 08:49:37 GMT"),
    );
    mock.on("/f", Answer::status(304, ""));
    mock.on("/f", Answer::ok("text/plain", b"two"));
    mock.on("/f", Answer::status(304, ""));
    let Fetched::File(digest, validator) = ask(None).await.unwrap() else { panic!("it is new") };
    assert_eq!((digest, validator.etag.as_deref()), (Digest::of(b"one"), Some("\"v1\"")));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(ask(Some(&validator)).await.unwrap(), Fetched::Unchanged);
    assert!(!path.exists(), "nothing came");
    assert_eq!(ask(Some(&validator)).await.unwrap(), Fetched::File(Digest::of(b"two"), Validator::default()));
    // "Not modified" answers a question only.
    assert!(matches!(ask(None).await, Err(FetchError::Status { .. })));
    assert!(matches!(ask(Some(&Validator::default())).await, Err(FetchError::Status { .. })));
    let asked: Vec<bool> =
        mock.heads().iter().map(|head| head.contains("if-none-match: \"v1\"") && head.contains("if-modified-since: sun, 06 nov 1994")).collect();
    assert_eq!(asked, [false, true, true, false, false]);
}

#[tokio::test]
async fn a_login_that_was_given_goes_to_its_host_alone() {
    let (first, second) = (Mock::start().await, Mock::start().await);
    first.on("/f", redirect(&format!("http://{}/g", second.host)));
    second.on("/g", Answer::ok("text/plain", b"there"));
    let dir = tempfile::tempdir().unwrap();
    let ask = async |authorization| {
        let request = FileRequest { authorization: Some(authorization), ..FileRequest::default() };
        fetch(&format!("http://{}/f", first.host), request, &dir.path().join("file"), &PullOptions::default()).await
    };
    assert!(matches!(ask("Bearer abc").await, Ok(Fetched::File(..))));
    assert_eq!((first.asked("/f Bearer abc"), second.asked("/g"), second.asked("/g Bearer abc")), (1, 1, 0));
    let error = ask("two\nlines").await.unwrap_err();
    assert!(matches!(error, FetchError::Authorization { .. }) && !error.to_string().contains("lines"), "{error}");
}

fn redirect(to: &str) -> Answer {
    let mut answer = Answer::status(302, "");
    answer.headers.push(("Location".to_owned(), to.to_owned()));
    answer
}

#[tokio::test]
async fn files_are_fetched_and_checked() {
    let mock = Mock::start().await;
    mock.on("/f", Answer::ok("text/plain", b"content"));
    let url = format!("http://{}/f", mock.host);
    let right = Digest::of(b"content");
    for expected in [None, Some(&right)] {
        let (digest, file) = get(&url, expected).await;
        assert_eq!((digest.unwrap(), file.as_deref()), (right, Some(&b"content"[..])));
    }
    let (error, file) = get(&url, Some(&Digest::of(b"other"))).await;
    assert!(matches!(error, Err(FetchError::Checksum { .. })) && file.is_none(), "nothing wrong is left");
    let (missing, _) = get(&format!("http://{}/none", mock.host), None).await;
    assert_eq!(missing.unwrap_err().to_string(), format!("http://{}/none: invalid response status 404", mock.host));
    assert!(matches!(get("ftp://h/f", None).await.0, Err(FetchError::Address { .. })));
}

#[tokio::test]
async fn redirects_carry_no_login_and_reach_no_metadata() {
    let (first, second) = (Mock::start().await, Mock::start().await);
    first.on("/f", redirect(&format!("http://{}/g", second.host)));
    second.on("/g", Answer::ok("text/plain", b"there"));
    let (digest, _) = get(&format!("http://me:secret@{}/f", first.host), None).await;
    assert_eq!(digest.unwrap(), Digest::of(b"there"));
    assert_eq!(first.asked("/f Basic bWU6c2VjcmV0"), 1, "the host itself gets the login");
    assert_eq!((second.asked("/g"), second.asked("/g Basic bWU6c2VjcmV0")), (1, 0));
    first.on("/m", redirect("http://169.254.169.254/latest/meta-data"));
    let (error, _) = get(&format!("http://{}/m", first.host), None).await;
    assert!(matches!(&error, Err(FetchError::Refused { address, .. }) if address.to_string() == "169.254.169.254"), "{error:?}");
    let (error, _) = get("http://[fe80::1]/x", None).await;
    assert!(matches!(error, Err(FetchError::Refused { .. })));
    first.on("/loop", redirect(&format!("http://{}/loop", first.host)));
    let (error, _) = get(&format!("http://me:secret@{}/loop", first.host), None).await;
    assert!(matches!(&error, Err(error) if !error.to_string().contains("secret")), "{error:?}");
}
