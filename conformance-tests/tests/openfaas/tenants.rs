//! Several who sign, each with keys and repositories of their own.

use std::{fs, process::Output};

use kiln_conformance_tests::{Client, Engine, Kiln, Launch, client::Answer, registry};
use reqwest::{Method, RequestBuilder};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{
    Archive, KEY, PATIENCE, USER, archive,
    endings::{in_its_step, lasting_dockerfile},
    signed, unsigned,
};

const COPIES: &str = "FROM scratch\nCOPY hello /hello\n";
const KEY_ID: &str = "x-kiln-key-id";

/// Two tenants, one with a key that changes, beside the default key; each name has a user to look with.
fn launch() -> Launch {
    let launch = signed().unset("KILN_OPENFAAS__UNBOUNDED").user("acme").user("second");
    for (file, key) in [("acme-old", "acme's old key"), ("acme-new", "acme's new key\n"), ("other", "another key")] {
        fs::write(launch.folder().join(file), key).unwrap();
    }
    let folder = launch.folder().display().to_string();
    launch.config(&format!(
        r#"
        [openfaas]
        domain = "builder.example"
        [openfaas.tenants.acme]
        payload_secret_file = ["{folder}/acme-old", "{folder}/acme-new"]
        [openfaas.tenants.other]
        user = "second"
        payload_secret_file = "{folder}/other"
        "#
    ))
}

/// A request signed with this key.
fn by(client: &Client, archive: &Archive, key: &str) -> RequestBuilder {
    unsigned(client, archive).header("x-build-signature", archive::sha256(archive.bytes(), key))
}

async fn post(client: &Client, tenant: &str, key: &str, archive: &Archive) -> Answer {
    client.send(by(client, archive, key).header(KEY_ID, tenant)).await
}

#[tokio::test]
async fn each_tenant_builds_what_is_theirs_and_nobody_elses() {
    let kiln = launch().start().await;
    let client = kiln.anonymous();
    for (tenant, key, user) in [("acme", "acme's old key", "acme"), ("other", "another key", "second")] {
        let archive = Archive::at(&format!("{user}/fn"), COPIES);
        let answer = post(&client, tenant, key, &archive).await;
        assert_eq!(answer.status, 200, "{tenant}: {}", answer.text);
        assert!(registry::digest(&archive.repository, &archive.tag).await.is_some(), "{tenant}");
        let builds = kiln.client(user).get("/v1/builds").await.json();
        assert_eq!(builds["builds"].as_array().map(Vec::len), Some(1), "{tenant}: {builds}");
        assert_eq!(builds["builds"][0]["owner"], user);
    }
    // Neither one tenant another's, nor the default key's holder any of theirs, nor likely names.
    for (tenant, key, repository) in [
        (Some("acme"), "acme's old key", "second/fn"),
        (Some("acme"), "acme's old key", "acme-fn"),
        (Some("acme"), "acme's old key", "functions/hello"),
        (Some("other"), "another key", "acme/fn"),
        (None, KEY, "acme/fn"),
        (None, KEY, "functions/hello"),
    ] {
        let archive = Archive::at(repository, COPIES);
        let mut request = by(&client, &archive, key);
        if let Some(tenant) = tenant {
            request = request.header(KEY_ID, tenant);
        }
        let answer = client.send(request).await;
        let text = answer.json()["status"].as_str().unwrap_or_default().to_owned();
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (403, "application/json"), "{repository}");
        assert!(text.starts_with(&format!("{repository} is not ")), "{text}");
        assert_eq!(registry::digest(&archive.repository, &archive.tag).await, None);
    }
    let answer = client.send(by(&client, &Archive::at("openfaas/fn", COPIES), KEY)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[tokio::test]
async fn old_and_new_key_count_side_by_side_and_a_change_needs_no_restart() {
    let kiln = launch().start().await;
    let client = kiln.anonymous();
    // Proved, and no archive.
    let (proved, refused) = (400, 401);
    let status = async |key: &str| post(&client, "acme", key, &Archive::raw(b"x".to_vec())).await.status.as_u16();
    assert_eq!((status("acme's old key").await, status("acme's new key").await), (proved, proved));
    assert_eq!((status("another key").await, status(KEY).await), (refused, refused));
    fs::remove_file(kiln.folder().join("acme-old")).unwrap();
    assert_eq!((status("acme's old key").await, status("acme's new key").await), (refused, proved));
    fs::write(kiln.folder().join("acme-old"), "acme's next key").unwrap();
    assert_eq!((status("acme's next key").await, status("acme's new key").await), (proved, proved));
}

/// Sends a request's head alone, and gives the first line of the answer.
async fn head(kiln: &Kiln, fields: &str) -> String {
    let mut stream = TcpStream::connect(kiln.url.trim_start_matches("http://")).await.unwrap();
    let head = format!("POST /build HTTP/1.1\r\ncontent-length: 1000000\r\n{fields}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 256];
    let read = timeout(PATIENCE, stream.read(&mut answer)).await.expect("an answer to the head").unwrap();
    String::from_utf8_lossy(&answer[..read]).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn who_isnt_here_is_refused_before_the_body() {
    let kiln = launch().start().await;
    let signature = format!("x-build-signature: sha256={}\r\n", "0".repeat(64));
    for fields in [
        format!("host: kiln\r\nx-kiln-key-id: nobody\r\n{signature}"),
        format!("host: kiln\r\nx-kiln-key-id: \u{e9}\r\n{signature}"),
        format!("host: nobody.builder.example\r\n{signature}"),
        format!("host: nobody.builder.example\r\nx-kiln-key-id: acme\r\n{signature}"),
        "host: acme.builder.example\r\n".to_owned(),
    ] {
        assert_eq!(head(&kiln, &fields).await, "HTTP/1.1 401 Unauthorized", "{fields}");
    }
}

#[tokio::test]
async fn nobody_learns_from_a_refusal_who_is_here() {
    let kiln = launch().start().await;
    let client = kiln.anonymous();
    fs::remove_file(kiln.folder().join("other")).unwrap();
    let archive = Archive::raw(b"x".to_vec());
    let mut said = Vec::new();
    for tenant in ["acme", "other", "nobody"] {
        let bare = client.send(unsigned(&client, &archive).header(KEY_ID, tenant)).await;
        let signed = post(&client, tenant, "no key of anybody's", &archive).await;
        said.push([bare, signed].map(|answer| (answer.status.as_u16(), answer.text)));
    }
    assert!(said.iter().all(|answers| *answers == said[0]), "{said:?}");
    assert!(said[0][0].1.contains("invalid encodedHash") && said[0][1].1.contains("invalid message digest or secret"));
}

#[tokio::test]
async fn a_neighbours_bad_signatures_hold_off_nobody_who_signs_well_from_the_same_address() {
    let kiln = launch().set("KILN_LIMITS__RATES__FAILURES", "{ per_minute = 1, burst = 2 }").start().await;
    let client = kiln.anonymous();
    let archive = Archive::raw(b"x".to_vec());
    let status = async |tenant: &str, key: &str| post(&client, tenant, key, &archive).await.status.as_u16();
    assert_eq!(status("acme", "acme's old key").await, 400, "proved, and no archive");
    for _ in 0..2 {
        assert_eq!(status("nobody", "no key of anybody's").await, 401);
    }
    for tenant in ["nobody", "other"] {
        assert_eq!(status(tenant, "another key").await, 429, "{tenant} has proved nothing here");
    }
    assert_eq!(status("acme", "acme's old key").await, 400);
    // Whoever says that they are acme is bounded, too.
    for refused in [401, 401, 429] {
        assert_eq!(status("acme", "no key of anybody's").await, refused);
    }
}

/// What `X-Kiln-Signature` is for this archive now.
fn timed(archive: &Archive, key: &str) -> String {
    let time = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let signature = archive::sha256(&[format!("kiln-v1\n{time}\n").as_bytes(), archive.bytes()].concat(), key);
    format!("t={time},{signature}")
}

#[tokio::test]
async fn where_signatures_must_be_timed_no_other_opens_the_door() {
    let kiln = launch().set("KILN_OPENFAAS__TIMED_SIGNATURES", "true").start().await;
    let client = kiln.anonymous();
    let archive = Archive::raw(b"x".to_vec());
    let untimed = post(&client, "acme", "acme's old key", &archive).await;
    assert_eq!(untimed.status, 401, "{}", untimed.text);
    assert!(untimed.text.contains("send X-Kiln-Signature"), "{}", untimed.text);
    let signature = timed(&archive, "acme's old key");
    let request = unsigned(&client, &archive).header("x-kiln-signature", signature).header(KEY_ID, "acme");
    let proved = client.send(request).await;
    assert_eq!(proved.status, 400, "it got as far as being no archive: {}", proved.text);
}

#[tokio::test]
async fn a_timestamped_signature_is_used_up_by_what_was_let_in_alone() {
    let archive = Archive::raw(b"x".to_vec());
    let sent = async |kiln: &Kiln| {
        let (client, signature) = (kiln.anonymous(), timed(&archive, KEY));
        let send =
            async || client.send(unsigned(&client, &archive).header("x-kiln-signature", &signature)).await.status;
        [send().await.as_u16(), send().await.as_u16()]
    };
    assert_eq!(sent(&launch().start().await).await, [400, 401]);
    assert_eq!(sent(&launch().set("KILN_LIMITS__STREAMS_PER_OWNER", "0").start().await).await, [429, 429]);
}

#[tokio::test]
async fn a_host_name_says_who_it_is_before_a_key_id_does() {
    let kiln = launch().start().await;
    let client = kiln.anonymous();
    let archive = Archive::raw(b"x".to_vec());
    for (key, status) in [("acme's new key", 400), ("another key", 401)] {
        let request = by(&client, &archive, key).header("host", "ACME.builder.example:8080").header(KEY_ID, "other");
        assert_eq!(client.send(request).await.status, status, "{key}");
    }
}

#[tokio::test]
async fn a_tenant_has_rates_and_places_of_their_own() {
    let rate = r#"{ per_minute = 1, burst = 2 }"#;
    let launch = launch().set("KILN_LIMITS__RATES__SUBMIT", rate).set("KILN_LIMITS__STREAMS_PER_OWNER", "0");
    let kiln = launch.start().await;
    let client = kiln.anonymous();
    let archive = Archive::raw(b"x".to_vec());
    // The first two fail for want of a place, the third for want of a rate.
    for text in ["too many requests of yours are under way", "too many requests of yours", "too many requests; try"] {
        let answer = post(&client, "acme", "acme's old key", &archive).await;
        assert_eq!(answer.status, 429, "{}", answer.text);
        assert!(answer.json()["status"].as_str().is_some_and(|said| said.starts_with(text)), "{}", answer.text);
        assert!(answer.header("retry-after").parse::<u64>().is_ok());
    }
    let answer = post(&client, "other", "another key", &archive).await;
    assert!(answer.text.contains("under way"), "the other's rate is untouched: {}", answer.text);
}

fn said(launch: &Launch, arguments: &[&str]) -> (bool, String) {
    let Output { status, stdout, stderr } = launch.command(arguments).output().unwrap();
    (status.success(), String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr))
}

#[test]
fn names_that_could_be_somebody_elses_and_keys_that_could_be_anybodys_are_refused_at_the_start() {
    let apart = || launch().set("KILN_IDENTITY__SHARED_NAMES", "false");
    let no_default_key = || launch().unset("KILN_OPENFAAS__PAYLOAD_SECRET_FILE");
    let open = signed().unset("KILN_OPENFAAS__UNBOUNDED").unset("KILN_OPENFAAS__PAYLOAD_SECRET_FILE");
    let unsigned_but_timed =
        open.set("KILN_OPENFAAS__DISABLE_HMAC", "true").set("KILN_OPENFAAS__TIMED_SIGNATURES", "true");
    let shared = launch();
    let file = shared.folder().join("other").display().to_string();
    for (launch, fault) in [
        (apart(), "neither identity.users_file_prefix nor openfaas.prefix is set"),
        (apart().set("KILN_IDENTITY__USERS_FILE_PREFIX", "ac"), "openfaas.tenants.acme.user \"acme\""),
        (apart().set("KILN_OPENFAAS__PREFIX", "Of-"), "openfaas.prefix can't begin a user name"),
        (launch().set("KILN_OPENFAAS__USER", "Open Faas"), "openfaas.user \"Open Faas\""),
        (launch().set("KILN_OPENFAAS__USER", "acme"), "openfaas.user and openfaas.tenants.acme.user are the same user"),
        (launch().set("KILN_OPENFAAS__DISABLE_HMAC", "true"), "names a key; remove openfaas.disable_hmac"),
        (no_default_key().set("KILN_OPENFAAS__DISABLE_HMAC", "true"), "and tenants have keys; remove one of the two"),
        (unsigned_but_timed, "timed_signatures who signs; remove one of the two"),
        (launch().set("KILN_OPENFAAS__UNBOUNDED", "true"), "unbounded lets every key name every repository"),
        (launch().set("KILN_OPENFAAS__DOMAIN", "http://builder"), "is no host name"),
        (launch().set("KILN_OPENFAAS__TENANTS__A_B__PAYLOAD_SECRET_FILE", "k"), "can't be part of a host name"),
        (launch().set("KILN_OPENFAAS__TENANTS__NEW__PAYLOAD_SECRET_FILE", "[]"), "new has no key file"),
        (shared.set("KILN_OPENFAAS__TENANTS__NEW__PAYLOAD_SECRET_FILE", file), "two users have this key file"),
        (launch().set("KILN_LIMITS__UNPROVED", "1000"), "more than limits.unproved"),
    ] {
        let (served, said) = said(&launch, &["serve"]);
        assert!(!served && said.contains(fault), "{fault}: {said}");
    }
}

#[tokio::test]
async fn behind_a_prefix_the_doors_users_are_others_than_the_files() {
    let launch = launch().set("KILN_IDENTITY__SHARED_NAMES", "false").set("KILN_OPENFAAS__PREFIX", "of-");
    let kiln = launch.start().await;
    let client = kiln.anonymous();
    for (repository, status) in [("acme/fn", 403), ("of-acme/fn", 200)] {
        let answer = post(&client, "acme", "acme's old key", &Archive::at(repository, COPIES)).await;
        assert_eq!(answer.status, status, "{repository}: {}", answer.text);
    }
    assert_eq!(kiln.client("acme").get("/v1/builds").await.json()["builds"], json!([]));
}

#[test]
fn doctor_tells_of_every_key() {
    let good = launch();
    let (healthy, told) = said(&good, &["doctor"]);
    assert!(healthy, "{told}");
    for line in ["the default key can be read", "the key of tenant acme can be", "the key of tenant other can be"] {
        assert!(told.contains(&format!("ok    openfaas: {line}")), "{line}: {told}");
    }
    fs::remove_file(good.folder().join("acme-new")).unwrap();
    fs::write(good.folder().join("other"), " \n").unwrap();
    let (healthy, told) = said(&good, &["doctor"]);
    assert!(!healthy, "{told}");
    assert!(told.contains("warn  openfaas: the key of tenant acme: 1 of 2 files are there"), "{told}");
    assert!(told.contains("FAIL  openfaas: the key of tenant other: ") && told.contains("is empty"), "{told}");
    fs::write(good.folder().join("other"), "acme's old key\n").unwrap();
    let (healthy, told) = said(&good, &["doctor"]);
    assert!(!healthy && told.contains("FAIL  openfaas: acme and second have the same key"), "{told}");
    let open = Launch::on(Engine::Buildkitd).set("disable_hmac", "true").unset("KILN_IDENTITY__USERS_FILE");
    let (healthy, told) = said(&open, &["doctor"]);
    assert!(healthy && told.contains("warn  openfaas: openfaas.disable_hmac is set"), "{told}");
}

#[tokio::test]
async fn where_others_call_the_one_keys_holder_names_their_own_repositories_alone() {
    let bounded = || signed().unset("KILN_OPENFAAS__UNBOUNDED").user("alice");
    for (launch, status) in [
        (bounded(), 403),
        (bounded().set("KILN_OPENFAAS__UNBOUNDED", "true"), 200),
        (bounded().unset("KILN_IDENTITY__USERS_FILE"), 200),
    ] {
        let kiln = launch.start().await;
        for (repository, status) in [("alice/fn", status), ("openfaas/fn", 200)] {
            let answer = crate::post(&kiln.anonymous(), &Archive::at(repository, COPIES)).await;
            assert_eq!(answer.status, status, "{repository}: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn only_who_is_alone_has_all_places() {
    let archive = Archive::raw(b"x".to_vec());
    let none = || signed().set("KILN_LIMITS__STREAMS_PER_OWNER", "0");
    for (launch, status) in [(none(), 429), (none().unset("KILN_IDENTITY__USERS_FILE"), 400)] {
        let kiln = launch.start().await;
        assert_eq!(crate::post(&kiln.anonymous(), &archive).await.status, status);
    }
}

#[tokio::test]
async fn with_no_default_key_a_request_has_to_name_its_tenant() {
    let kiln = launch().unset("KILN_OPENFAAS__PAYLOAD_SECRET_FILE").start().await;
    let client = kiln.anonymous();
    let archive = Archive::raw(b"x".to_vec());
    assert_eq!(client.send(by(&client, &archive, "another key")).await.status, 401);
    assert_eq!(post(&client, "other", "another key", &archive).await.status, 400);
    assert_eq!(client.send(client.request(Method::GET, "/v1/builds")).await.status, 401);
    assert_eq!(kiln.client(USER).get("/v1/builds").await.status, 200);
}

#[tokio::test]
async fn no_tenant_takes_the_last_place_of_max_inflight() {
    let kiln = launch().set("max_inflight", "2").start().await;
    let client = kiln.anonymous();
    let lasting = Archive::at("acme/fn", &lasting_dockerfile(60));
    let waiting = tokio::spawn(by(&client, &lasting, "acme's new key").header(KEY_ID, "acme").send());
    in_its_step(&kiln.client("acme")).await;
    let crowded = post(&client, "acme", "acme's new key", &Archive::at("acme/fn", COPIES)).await;
    let text = "Concurrent request limit exceeded. Max concurrent requests: 1\n";
    assert_eq!((crowded.status.as_u16(), crowded.text.as_str()), (429, text));
    assert_eq!(client.get("/ready").await.status, 200, "others have a place");
    let answer = post(&client, "other", "another key", &Archive::at("second/fn", COPIES)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    waiting.abort();
}
