use std::{fs, path::Path};

use http::HeaderValue;

use super::*;
use crate::UserName;

/// The contract's own vector.
const KEY: &str = "key-goes-here";
const BODY: &[u8] = b"Store this string";
const SHA1: &str = "805c32cea5b377c5ec65489027a345f58c872136";
const SHA256: &str = "e5be64930d119f5f805ff9b7d435197d2a3b54118c51d38365af6c3cb48ce24f";
const NOW: u64 = 1_800_000_000;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn parse(header: &'static str, value: &str) -> Result<Option<Signature>, InvalidSignature> {
    Signature::from_headers(&HeaderMap::from_iter([(HeaderName::from_static(header), value.parse().unwrap())]), at(NOW))
}

fn signer(user: &str, dir: &Path, keys: &[(&str, &[u8])]) -> Signer {
    for (name, key) in keys {
        fs::write(dir.join(name), key).unwrap();
    }
    Signer { user: UserName::parse(user).unwrap(), keys: keys.iter().map(|(name, _)| dir.join(name)).collect() }
}

fn verify(signers: &[Signer], signature: &Signature, body: &[u8]) -> Result<UserName, SignatureMismatch> {
    let mut verifier = Keys::read(signers).unwrap().verifier(signature);
    body.chunks(3).for_each(|chunk| verifier.update(chunk));
    verifier.finish()
}

#[test]
fn each_spelling_of_the_vector_is_right_and_no_other_body_is() {
    let dir = tempfile::tempdir().unwrap();
    let signers = [signer("openfaas", dir.path(), &[("payload-secret", KEY.as_bytes())])];
    for header in ["x-build-signature", "x-cloud-signature"] {
        for value in [
            format!("sha1={SHA1}"),
            format!("sha256={SHA256}"),
            format!("sha256={}", SHA256.to_uppercase()),
            format!(" sha1={SHA1}\t"),
        ] {
            let signature = parse(header, &value).unwrap().unwrap();
            assert_eq!(verify(&signers, &signature, BODY).unwrap().as_str(), "openfaas", "{header}: {value}");
            assert_eq!(verify(&signers, &signature, b"Store this strinh"), Err(SignatureMismatch));
            assert_eq!(verify(&signers, &signature, b""), Err(SignatureMismatch));
        }
    }
}

#[test]
fn what_can_not_be_right_is_refused_before_the_body() {
    use InvalidSignature::{Digest, Method, Stale, Time};
    use SignatureHeader::{Build, Kiln};
    for (header, value, expected) in [
        ("x-build-signature", String::new(), Method(Build)),
        ("x-build-signature", "sha2".to_owned(), Method(Build)),
        ("x-build-signature", SHA256.to_owned(), Method(Build)),
        ("x-build-signature", format!("SHA256={SHA256}"), Method(Build)),
        ("x-build-signature", format!("md5={SHA1}"), Method(Build)),
        ("x-build-signature", "sha256=".to_owned(), Digest(Build)),
        ("x-build-signature", format!("sha256={SHA1}"), Digest(Build)),
        ("x-build-signature", format!("sha1={SHA1}0"), Digest(Build)),
        ("x-build-signature", format!("sha1={}+1", &SHA1[2..]), Digest(Build)),
        ("x-kiln-signature", format!("sha256={SHA256}"), Time(Kiln)),
        ("x-kiln-signature", format!("t=,sha256={SHA256}"), Time(Kiln)),
        ("x-kiln-signature", format!("t=+{NOW},sha256={SHA256}"), Time(Kiln)),
        ("x-kiln-signature", format!("t=0{NOW},sha256={SHA256}"), Time(Kiln)),
        ("x-kiln-signature", format!("t={},sha256={SHA256}", NOW - 301), Stale(Kiln)),
        ("x-kiln-signature", format!("t={},sha256={SHA256}", NOW + 301), Stale(Kiln)),
        ("x-kiln-signature", format!("t={NOW},sha1={SHA1}"), Method(Kiln)),
    ] {
        assert_eq!(parse(header, &value), Err(expected), "{header}: {value}");
    }
    assert_eq!(Signature::from_headers(&HeaderMap::new(), at(NOW)), Ok(None));
    let mut twice = HeaderMap::new();
    for _ in 0..2 {
        twice.append("x-build-signature", HeaderValue::from_str(&format!("sha1={SHA1}")).unwrap());
    }
    assert_eq!(Signature::from_headers(&twice, at(NOW)), Err(InvalidSignature::Repeated(Build)));
}

#[test]
fn old_and_new_key_sign_side_by_side_and_a_changed_file_counts_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let signers = [signer("openfaas", dir.path(), &[("new", b"next"), ("old", b"\n key-goes-here\r\n")])];
    let signature = parse("x-build-signature", &format!("sha256={SHA256}")).unwrap().unwrap();
    assert!(verify(&signers, &signature, BODY).is_ok(), "the old one, trimmed");
    fs::remove_file(dir.path().join("old")).unwrap();
    assert_eq!(verify(&signers, &signature, BODY), Err(SignatureMismatch));
    fs::write(dir.path().join("new"), KEY).unwrap();
    assert!(verify(&signers, &signature, BODY).is_ok(), "the new one");
}

#[test]
fn a_key_that_is_none_is_the_installations_fault() {
    let dir = tempfile::tempdir().unwrap();
    let empty = [signer("openfaas", dir.path(), &[("empty", b" \n")])];
    assert!(matches!(Keys::read(&empty), Err(KeyError::Empty(_))), "anybody could sign with it");
    let long = [signer("openfaas", dir.path(), &[("long", &[b'x'; 5000])])];
    assert!(matches!(Keys::read(&long), Err(KeyError::TooLong(_))));
    let gone = [Signer { user: UserName::parse("u").unwrap(), keys: vec![dir.path().join("gone")] }];
    assert!(matches!(Keys::read(&gone), Err(KeyError::Unreadable { .. })));
}

#[test]
fn a_tenant_is_named_by_host_before_key_id_and_an_unknown_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let one = |user| signer(user, dir.path(), &[(user, KEY.as_bytes())]);
    let tenants = ["acme", "other"].map(|name| (name.to_owned(), one(name)));
    let keyring = Keyring::new(Some("builder.example"), vec![one("openfaas")], tenants).unwrap();
    for (host, key_id, expected) in [
        (None, None, Some("openfaas")),
        (Some("builder.example:8080"), None, Some("openfaas")),
        (Some("127.0.0.1:8080"), None, Some("openfaas")),
        (Some("[::1]:8080"), None, Some("openfaas")),
        (Some("acme.builder.example"), None, Some("acme")),
        (Some("ACME.Builder.Example.:8080"), Some("other"), Some("acme")),
        (Some("builder.example"), Some("other"), Some("other")),
        (Some("acmebuilder.example"), None, Some("openfaas")),
        (Some("nobody.builder.example"), Some("acme"), None),
        (Some("x.acme.builder.example"), None, None),
        (Some(".builder.example"), None, None),
        (None, Some("nobody"), None),
        (None, Some(""), None),
    ] {
        let user = keyring.signers(keyring.named(host, key_id).as_deref()).ok().map(|signers| signers[0].user.as_str());
        assert_eq!(user, expected, "{host:?}, {key_id:?}");
    }
    let tenants_alone = Keyring::new(None, vec![], [("acme".to_owned(), one("acme"))]).unwrap();
    assert_eq!(tenants_alone.signers(None).map(<[Signer]>::len), Err(UnknownTenant));
    assert_eq!(tenants_alone.signers(Some("acme")).map(<[Signer]>::len), Ok(1));
}

#[test]
fn a_keyring_is_bounded_and_its_names_are_labels() {
    let dir = tempfile::tempdir().unwrap();
    let of = |keys: usize| Signer { user: UserName::parse("u").unwrap(), keys: vec![dir.path().join("k"); keys] };
    assert!(Keyring::new(None, vec![of(4), of(4)], []).is_ok());
    assert!(matches!(Keyring::new(None, vec![of(4), of(5)], []), Err(InvalidKeyring::TooMany(_))));
    assert!(matches!(Keyring::new(None, vec![of(0)], []), Err(InvalidKeyring::None(_))));
    for name in ["", "A", "a.b", "-a", "a-", "a_b"] {
        let tenants = [(name.to_owned(), of(1))];
        assert!(matches!(Keyring::new(None, vec![], tenants), Err(InvalidKeyring::Tenant(_))), "{name:?}");
    }
    let twice = [("a".to_owned(), of(1)), ("a".to_owned(), of(1))];
    assert!(matches!(Keyring::new(None, vec![], twice), Err(InvalidKeyring::Twice(_))));
}

#[test]
fn a_timestamped_signature_is_good_once() {
    let dir = tempfile::tempdir().unwrap();
    let signers = [signer("openfaas", dir.path(), &[("key", KEY.as_bytes())])];
    let sign = |time: u64| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes());
        let mac = hmac::sign(&key, &[format!("kiln-v1\n{time}\n").as_bytes(), BODY].concat());
        let digits: String = mac.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        parse("x-kiln-signature", &format!("t={time},sha256={digits}")).unwrap().unwrap()
    };
    let (replays, user) = (Replays::of(1), UserName::parse("openfaas").unwrap());
    let signature = sign(NOW);
    assert!(verify(&signers, &signature, BODY).is_ok());
    assert_eq!(replays.admit(&user, &signature, at(NOW)), Ok(()));
    assert_eq!(replays.admit(&user, &signature, at(NOW + 300)), Err(Replayed::Again));
    assert_eq!(replays.admit(&user, &sign(NOW + 1), at(NOW + 300)), Ok(()), "another second, another signature");
    assert_eq!(replays.admit(&user, &signature, at(NOW + 700)), Ok(()), "what is too old to be sent is forgotten");
    let untimed = parse("x-build-signature", &format!("sha256={SHA256}")).unwrap().unwrap();
    for _ in 0..2 {
        assert_eq!(replays.admit(&user, &untimed, at(NOW)), Ok(()));
    }
}

#[test]
fn a_users_signatures_leave_room_for_anothers() {
    let replays = Replays::of(1000);
    let of = |number: u32| parse("x-kiln-signature", &format!("t={NOW},sha256={number:064x}")).unwrap().unwrap();
    let [one, other] = ["one", "other"].map(|user| UserName::parse(user).unwrap());
    let admitted = (0..200_000).take_while(|number| replays.admit(&one, &of(*number), at(NOW)).is_ok()).count();
    assert_eq!(admitted, 1024);
    assert_eq!(replays.admit(&one, &of(200_000), at(NOW)), Err(Replayed::Full));
    assert_eq!(replays.admit(&other, &of(200_000), at(NOW)), Ok(()));
}

#[test]
fn two_users_have_no_key_in_common() {
    let dir = tempfile::tempdir().unwrap();
    let tenants = |one: Signer, other: Signer| [("one".to_owned(), one), ("other".to_owned(), other)];
    let (one, other) = (signer("one", dir.path(), &[("a", b"key")]), signer("other", dir.path(), &[("b", b" key\n")]));
    let keyring = Keyring::new(None, vec![], tenants(one.clone(), other.clone())).unwrap();
    let same: Vec<_> = keyring.same().iter().map(|(one, other)| format!("{one} {other}")).collect();
    assert_eq!(same, ["one other"]);
    fs::write(dir.path().join("b"), "another").unwrap();
    assert_eq!(keyring.same(), []);
    let same_file = Signer { keys: one.keys.clone(), ..other };
    let shared = Keyring::new(None, vec![same_file.clone()], [("one".to_owned(), one)]);
    assert!(matches!(shared, Err(InvalidKeyring::Shared(path)) if path == same_file.keys[0]));
}

#[test]
fn neither_keys_nor_signatures_are_printed() {
    let dir = tempfile::tempdir().unwrap();
    let signature = parse("x-build-signature", &format!("sha256={SHA256}")).unwrap().unwrap();
    let keys = Keys::read(&[signer("openfaas", dir.path(), &[("key", KEY.as_bytes())])]).unwrap();
    let printed = format!("{signature:?} {keys:?} {:?}", keys.verifier(&signature));
    assert!(!printed.contains(KEY) && !printed.contains("229"), "{printed}");
}
