//! What is malformed or hostile is refused with a reason, and leaves nothing behind.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use kiln_conformance_tests::client::Answer;
use reqwest::Method;
use serde_json::{Value, json};

use super::gateway::{CLEANUP, ENSURE, JSON, START, STATUS, Tenant, ko, post_raw};

const TARGET: &str = "Invalid target for the build.";
const SOURCE: &str = "Invalid source for the build.";
const KIND: &str = "Invalid kind for the build.";
const KINDS: &str = "Invalid kind for the build. Kinds are python, nodejs, php, java, go, ruby, dotnet.";
const BASE64: &str = "Requirements file must be valid base64-encoded data";
const UTF8: &str = "Requirements file must be valid UTF-8 text";
const MALFORMED: &str = "The JSON payload is malformed.";
const OBJECT: &str = "The JSON payload must be an object.";
const CAPITALS: &str = "Invalid source for the build: the image reference has capital letters in its repository; \
                        repositories are in lower case.";
const GRAMMAR: &str = "Invalid source for the build: the image reference is not [host[:port]/]repository[:tag][@digest] \
                       with a tag of at most 128 characters of A-Z a-z 0-9 . _ -.";
const DIGEST: &str =
    "Invalid source for the build: the image reference's digest is not sha256: and 64 digits of 0-9 a-f.";
const TOO_LONG: &str = "Invalid source for the build: the image reference is longer than 512 characters.";

/// Blanks, line ends, control characters and separators that no name has.
const ODD: [&str; 16] = [
    "\n",
    "\r",
    "\r\n",
    "\0",
    "\t",
    " ",
    "\u{b}",
    "\u{c}",
    "\u{1b}[2J",
    "\u{7f}",
    "\u{85}",
    "\u{a0}",
    "\u{2028}",
    "\u{2029}",
    "\u{2003}",
    "\u{3000}",
];
/// What means something to a shell, to a list of options or to a template.
const SHELL: [&str; 16] =
    [";id", "|id", "&id", "$(id)", "`id`", "${HOME}", ">x", "<x", "*", "?", "'", "\"", "\\", "#x", "!x", ",push=false"];
/// Letters that look like others, or like nothing.
const LOOK_ALIKE: [&str; 5] = ["\u{430}", "\u{ff41}", "\u{200b}", "\u{202e}", "\u{e9}"];

#[tokio::test]
async fn no_target_but_the_users_own_is_taken() {
    let tenant = Tenant::waiting().await;
    let user = tenant.name.as_str();
    let mut targets: Vec<String> = [ODD.as_slice(), &SHELL, &LOOK_ALIKE]
        .concat()
        .iter()
        .flat_map(|odd| [format!("{user}:t{odd}"), format!("{user}{odd}:t"), format!("{odd}{user}:t")])
        .collect();
    targets.extend([
        format!("{user}:"),
        format!(":{user}"),
        ":".to_owned(),
        format!("{user}:a:b"),
        format!("{user}:-t"),
        format!("{user}:.t"),
        format!("{user}:{}", "t".repeat(129)),
        format!("{user}:t/u"),
        format!("{user}:t@sha256:{}", "a".repeat(64)),
        format!("{user}@sha256:{}", "a".repeat(64)),
        format!("{user}/app:t"),
        format!("{user}/../other:t"),
        format!("/{user}:t"),
        format!("{user}//x:t"),
        format!("{user}x:t"),
        format!("{user}-x:t"),
        format!("x{user}:t"),
        format!("{}:t", &user[..user.len() - 1]),
        format!("{}:t", user.to_uppercase()),
        format!("{}:t", user.replacen('e', "\u{435}", 1)),
        format!("{}:t", user.replacen('d', "\u{ff44}", 1)),
        format!("{}:t", user.replacen('l', "1", 1)),
        format!("registry.example/{user}:t"),
        format!("localhost:5000/{user}:t"),
        "other:t".to_owned(),
        "library/python:t".to_owned(),
        "..:t".to_owned(),
        "-:t".to_owned(),
        "t".repeat(100_000),
    ]);
    for target in targets {
        refused(&tenant, "target", target.clone().into(), TARGET).await;
    }
    assert_unharmed(&tenant).await;
}

#[tokio::test]
async fn no_source_outside_the_grammar_is_taken() {
    let tenant = Tenant::waiting().await;
    for odd in ODD {
        for source in [format!("python{odd}"), format!("{odd}python"), format!("python{odd}RUN id")] {
            refused(&tenant, "source", source.into(), SOURCE).await;
        }
    }
    for odd in SHELL.into_iter().chain(LOOK_ALIKE) {
        let shown = odd.chars().next().unwrap();
        let message = format!(
            "Invalid source for the build: the image reference contains {shown:?}; it may have letters, digits and \
             . _ - / : @ only."
        );
        refused(&tenant, "source", format!("python{odd}").into(), &message).await;
    }
    let digits = "a".repeat(64);
    for (source, message) in [
        ("Python".to_owned(), CAPITALS),
        ("ghcr.io/Apache/runtime:v1".to_owned(), CAPITALS),
        (format!("python:{}", "t".repeat(129)), GRAMMAR),
        ("python:".to_owned(), GRAMMAR),
        ("python:-t".to_owned(), GRAMMAR),
        ("-python".to_owned(), GRAMMAR),
        (
            "--from=x".to_owned(),
            "Invalid source for the build: the image reference contains '='; it may have letters, digits and . _ - / : @ only.",
        ),
        ("a//b".to_owned(), GRAMMAR),
        ("a/../b".to_owned(), GRAMMAR),
        ("/etc/passwd".to_owned(), GRAMMAR),
        ("python@sha256:00".to_owned(), DIGEST),
        (format!("python@sha512:{digits}{digits}"), DIGEST),
        (format!("python@sha256:{}", "A".repeat(64)), DIGEST),
        ("python@".to_owned(), DIGEST),
        ("a".repeat(513), TOO_LONG),
        ("a".repeat(100_000), TOO_LONG),
    ] {
        refused(&tenant, "source", source.into(), message).await;
    }
    for source in ["host:99999/a", "127.1:5000/a", "http://registry.example/a", "2130706433:80/a"] {
        let answer = start_with(&tenant, "source", source.into()).await;
        assert_eq!((answer.parts().0, answer.parts().1), (400, JSON), "{source}: {}", answer.text);
        assert!(answer.json()["message"].as_str().unwrap().starts_with("Invalid source for the build: "), "{source}");
    }
    assert_unharmed(&tenant).await;
}

#[tokio::test]
async fn no_kind_that_isnt_a_word_is_taken() {
    let tenant = Tenant::waiting().await;
    for odd in ODD {
        refused(&tenant, "kind", format!("python{odd}").into(), KIND).await;
    }
    for odd in SHELL.into_iter().chain(LOOK_ALIKE) {
        refused(&tenant, "kind", format!("python{odd}").into(), KINDS).await;
    }
    for kind in ["Python", "PYTHON", "pуthon", "python3", "rust", "../python"] {
        let body = json!({ "source": "python", "target": format!("{}:t", tenant.name), "kind": kind, "file": "" });
        let answer = tenant.client.post(START, &body).await;
        assert_eq!(answer.parts(), (400, JSON, ko(KINDS).as_str()), "{kind}");
    }
    assert_unharmed(&tenant).await;
}

#[tokio::test]
async fn no_field_of_another_type_is_taken() {
    let tenant = Tenant::waiting().await;
    for value in [json!(null), json!(true), json!(0), json!(1.5), json!([]), json!(["a"]), json!({}), json!({ "a": 1 })]
    {
        for (field, message) in [("source", SOURCE), ("target", TARGET), ("kind", KIND), ("file", BASE64)] {
            refused(&tenant, field, value.clone(), message).await;
        }
    }
    for (field, message) in [("source", SOURCE), ("target", TARGET), ("kind", KIND)] {
        refused(&tenant, field, "".into(), message).await;
    }
    assert_unharmed(&tenant).await;
}

#[tokio::test]
async fn no_file_but_base64_of_text_is_taken() {
    let tenant = Tenant::waiting().await;
    for file in [
        "YW!!Jj",
        "YWJ",
        "YQ",
        "YW Jj",
        "YW-_",
        "YWJj=",
        "=",
        "====",
        "Y=Q=",
        "YWJj YWJj",
        "\u{ff39}WJj",
        "YWJj\0",
        "💥",
        "a",
    ] {
        refused(&tenant, "file", file.into(), BASE64).await;
    }
    for bytes in
        [&b"\xff"[..], b"\xc3\x28", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"requests\xfe\xff", &[0x1f, 0x8b, 8, 0]]
    {
        refused(&tenant, "file", BASE64_STANDARD.encode(bytes).into(), UTF8).await;
    }
    assert_unharmed(&tenant).await;
}

#[tokio::test]
async fn what_is_too_large_is_refused_as_that() {
    let tenant = Tenant::waiting().await;
    let encoded = "Requirements file too large (max 10MB base64-encoded)";
    let decoded = "Decoded requirements file too large (max 5MB)";
    for (file, message) in [
        ("A".repeat(10_000_001), encoded),
        (BASE64_STANDARD.encode("a".repeat(5_000_001)), decoded),
        // Beyond what the gateway reads at all.
        ("A".repeat((16 << 20) + 1), encoded),
    ] {
        let answer = start_with(&tenant, "file", file.into()).await;
        assert_eq!(answer.parts(), (413, JSON, ko(message).as_str()));
    }
    let big = " ".repeat((16 << 20) + 1);
    for (path, message) in [(CLEANUP, "The JSON payload is too large."), (ENSURE, "Build file is too large")] {
        let answer = post_raw(&tenant.client, path, JSON, big.clone()).await;
        assert_eq!(answer.parts(), (413, JSON, ko(message).as_str()), "{path}");
    }
    // Characters count, as there: two bytes each.
    let accented = BASE64_STANDARD.encode("é".repeat(3_000_000));
    assert_eq!(start_with(&tenant, "file", accented.into()).await.parts().0, 200);
    assert_eq!(tenant.builds().await.len(), 1);
}

#[tokio::test]
async fn no_body_that_isnt_an_object_is_taken() {
    let tenant = Tenant::waiting().await;
    let user = &tenant.name;
    let good = json!({ "source": "python", "target": format!("{user}:t"), "kind": "python" }).to_string();
    let mut bodies: Vec<(Vec<u8>, &str)> = vec![
        (Vec::new(), MALFORMED),
        (b" ".to_vec(), MALFORMED),
        (b"{".to_vec(), MALFORMED),
        (good.as_bytes()[..good.len() - 1].to_vec(), MALFORMED),
        (format!("{good}{good}").into(), MALFORMED),
        (format!("{good}\0").into(), MALFORMED),
        (good.replace('"', "'").into(), MALFORMED),
        (good.replace("python", "py\nthon").into(), MALFORMED),
        (good.replace("python", "\\ud800").into(), MALFORMED),
        (good.replace('}', ",}").into(), MALFORMED),
        (good.replace('}', ",\"n\":NaN}").into(), MALFORMED),
        ([good.as_bytes(), b"\xff"].concat(), MALFORMED),
        ([&b"{\"source\":\"\xff\",\""[..], &good.as_bytes()[2..]].concat(), MALFORMED),
        ("[".repeat(100_000).into(), MALFORMED),
        (format!("{}{}", "[".repeat(5_000), "]".repeat(5_000)).into(), OBJECT),
        (b"source=python&target=t&kind=python".to_vec(), MALFORMED),
        (b"<build/>".to_vec(), MALFORMED),
    ];
    for other in ["5", "1.5", "true", "\"text\"", "[1]", "[[]]", "[{}]"] {
        bodies.push((other.into(), OBJECT));
    }
    bodies.push((b"null".to_vec(), "No JSON payload provided for build."));
    bodies.push((b"{}".to_vec(), "No source provided for build."));
    // Of two fields with one name the last counts.
    bodies.push((good.replace('}', ",\"target\":\"other:t\"}").into(), TARGET));
    for (body, message) in bodies {
        let answer = post_raw(&tenant.client, START, JSON, body.clone()).await;
        let shown = String::from_utf8_lossy(&body[..body.len().min(100)]).into_owned();
        assert_eq!(answer.parts(), (400, JSON, ko(message).as_str()), "{shown:?}");
    }
    assert_unharmed(&tenant).await;
}

#[tokio::test]
async fn no_ensure_outside_the_catalogue_or_the_bounds_is_taken() {
    let tenant = Tenant::waiting().await;
    let unknown = |name: &str| format!("Unknown builder: {name}");
    let (empty, base64) =
        ("Build file must be a non-empty base64 string", "Build file must be valid base64-encoded UTF-8 text");
    let known = "python:3.13";
    for (body, message) in [
        (json!(null), "No JSON payload provided".to_owned()),
        (json!({}), "No JSON payload provided".to_owned()),
        (json!([]), OBJECT.to_owned()),
        (json!("a"), OBJECT.to_owned()),
        (json!({ "file": "YQ==" }), unknown("")),
        (json!({ "builder": null, "file": "YQ==" }), unknown("")),
        (json!({ "builder": ["python:3.13"], "file": "YQ==" }), unknown("")),
        (json!({ "builder": "python", "file": "YQ==" }), unknown("python")),
        (json!({ "builder": "Python:3.13", "file": "YQ==" }), unknown("Python:3.13")),
        (json!({ "builder": "python:3.13\r\nx", "file": "YQ==" }), unknown("python:3.13x")),
        (json!({ "builder": "a".repeat(10_000), "file": "YQ==" }), unknown(&"a".repeat(80))),
        (json!({ "builder": known }), empty.to_owned()),
        (json!({ "builder": known, "file": null }), empty.to_owned()),
        (json!({ "builder": known, "file": "" }), empty.to_owned()),
        (json!({ "builder": known, "file": 5 }), empty.to_owned()),
        (json!({ "builder": known, "file": "YW!!" }), base64.to_owned()),
        (json!({ "builder": known, "file": "/w==" }), base64.to_owned()),
        (json!({ "builder": known, "file": "A".repeat(750_001) }), "Build file is too large".to_owned()),
        (
            json!({ "builder": known, "file": BASE64_STANDARD.encode("a".repeat(512 * 1024 + 1)) }),
            "Decoded build file is too large".to_owned(),
        ),
    ] {
        let answer = tenant.client.post(ENSURE, &body).await;
        let shown: String = body.to_string().chars().take(100).collect();
        assert_eq!(answer.parts(), (400, JSON, ko(&message).as_str()), "{shown}");
    }
    assert_unharmed(&tenant).await;
}

#[tokio::test]
async fn odd_requests_are_answered_and_leave_the_connection_to_others() {
    let tenant = Tenant::waiting().await;
    let long = format!("{STATUS}?id={}", "a".repeat(60_000));
    assert_eq!(tenant.client.get(&long).await.parts(), (404, JSON, ko("Build job not found").as_str()));
    for path in
        ["/system/api/v1/build/..%2f..%2fv1%2fbuilds", "/system/api/v1/build/%FF", "/system/api/v1/build/%0d%0a"]
    {
        let answer = tenant.client.get(path).await;
        assert_eq!((answer.parts().0, answer.parts().1), (400, JSON), "{path}: {}", answer.text);
    }
    let encoded = tenant.client.request(Method::POST, START).header("content-type", JSON);
    let gzip = tenant.client.send(encoded.header("content-encoding", "gzip").body(vec![0x1f, 0x8b, 8, 0])).await;
    assert_eq!(gzip.parts(), (400, JSON, ko(MALFORMED).as_str()));
    assert_unharmed(&tenant).await;
}

/// Sends an otherwise good body with this field.
async fn start_with(tenant: &Tenant, field: &str, value: Value) -> Answer {
    let mut body = json!({ "source": "python", "target": format!("{}:t", tenant.name), "kind": "python" });
    body[field] = value;
    tenant.client.post(START, &body).await
}

async fn refused(tenant: &Tenant, field: &str, value: Value, message: &str) {
    let shown: String = value.to_string().chars().take(100).collect();
    let answer = start_with(tenant, field, value).await;
    let want = json!({ "message": message, "status": "ko" });
    assert_eq!(answer.parts(), (400, JSON, format!("{want}\n").as_str()), "{field} {shown}");
}

/// Nothing was queued, and the gateway goes on.
async fn assert_unharmed(tenant: &Tenant) {
    assert_eq!(tenant.builds().await, Vec::<Value>::new());
    tenant.start("python:3.13", "t", Some("flask\n")).await;
    assert_eq!(tenant.builds().await.len(), 1);
}
