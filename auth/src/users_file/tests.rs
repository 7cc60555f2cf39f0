//! The file as it is written, read, changed and broken.

use std::os::unix::fs::PermissionsExt;

use secrecy::ExposeSecret;

use super::*;
use crate::WskToken;

struct Fixture {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kiln").join("users.toml");
    Fixture { _folder: folder, path }
}

fn user(name: &str) -> NewUser {
    NewUser::named(UserName::parse(name).unwrap())
}

async fn identify(users: &UsersFile, token: &WskToken) -> Result<Identity, Refusal> {
    users.identify(&Credential::Wsk(token.clone()), &Asker::GATEWAY).await
}

fn token(text: &str) -> WskToken {
    let Ok(Credential::Wsk(token)) = Credential::parse(text.as_bytes()) else { panic!("{text} is no wsk token") };
    token
}

#[tokio::test]
async fn an_added_user_is_let_in_with_their_environment() {
    let file = fixture();
    let environment = Environment::from_iter([("REGISTRY_HOST", "registry.example"), ("odd = \"name", "\n")]);
    let devel = add_user(&file.path, NewUser { environment, ..user("devel") }).unwrap();
    let plain = add_user(&file.path, user("plain")).unwrap();
    let users = UsersFile::open(&file.path).unwrap();

    let identity = identify(&users, &devel).await.unwrap();
    assert_eq!((identity.user().as_str(), identity.provider()), ("devel", "users-file"));
    assert_eq!(identity.environment().get("REGISTRY_HOST"), Some("registry.example"));
    assert_eq!(identity.environment().get("odd = \"name"), Some("\n"));
    assert!(!identify(&users, &plain).await.unwrap().environment_known());
}

#[tokio::test]
async fn a_wrong_key_and_an_unknown_user_get_the_same_answer() {
    let file = fixture();
    let devel = add_user(&file.path, user("devel")).unwrap();
    let users = UsersFile::open(&file.path).unwrap();
    let key = devel.key().expose_secret();
    for text in
        [format!("{}:{}", devel.uuid(), "k".repeat(64)), format!("{}:{key}", "0".repeat(36)), format!("devel:{key}")]
    {
        assert!(matches!(identify(&users, &token(&text)).await, Err(Refusal::NotMine)), "{text}");
    }
}

#[tokio::test]
async fn changes_are_seen_without_a_restart_and_an_unreadable_file_lets_nobody_in() {
    let file = fixture();
    let devel = add_user(&file.path, user("devel")).unwrap();
    let users = UsersFile::open(&file.path).unwrap();
    let late = add_user(&file.path, user("late")).unwrap();
    assert!(identify(&users, &late).await.is_ok());

    let rotated = add_user(&file.path, NewUser { rotate: true, ..user("devel") }).unwrap();
    assert!(identify(&users, &devel).await.is_err());
    assert!(identify(&users, &rotated).await.is_ok());

    fs::write(&file.path, "[[users]]\nname = canary").unwrap();
    let Err(Refusal::Unavailable(cause)) = identify(&users, &rotated).await else { panic!("an unreadable file") };
    assert!(cause.to_string().contains("line 2") && !cause.to_string().contains("canary"), "{cause}");
    fs::remove_file(&file.path).unwrap();
    assert!(matches!(identify(&users, &rotated).await, Err(Refusal::Unavailable(_))));
}

#[test]
fn the_file_is_private_and_holds_no_key() {
    let file = fixture();
    let devel = add_user(&file.path, user("devel")).unwrap();
    let text = fs::read_to_string(&file.path).unwrap();
    assert!(text.contains(devel.uuid()) && !text.contains(devel.key().expose_secret()), "{text}");
    assert_eq!(fs::metadata(&file.path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn comments_and_other_users_survive_a_rotation() {
    let file = fixture();
    add_user(&file.path, NewUser { environment: Environment::from_iter([("A", "1")]), ..user("devel") }).unwrap();
    add_user(&file.path, user("other")).unwrap();
    let text = fs::read_to_string(&file.path).unwrap();
    fs::write(&file.path, format!("# ours\n{text}")).unwrap();
    let environment = Environment::from_iter([("B", "2")]);
    add_user(&file.path, NewUser { rotate: true, environment, ..user("devel") }).unwrap();
    let text = fs::read_to_string(&file.path).unwrap();
    assert!(text.starts_with("# ours\n") && text.contains("A = \"1\"") && text.contains("B = \"2\""), "{text}");
    assert_eq!(Users::parse(&text, &file.path).unwrap().by_uuid.len(), 2);
}

#[test]
fn a_user_who_is_there_is_kept_unless_rotation_is_asked_for() {
    let file = fixture();
    add_user(&file.path, user("devel")).unwrap();
    let before = fs::read(&file.path).unwrap();
    assert!(matches!(add_user(&file.path, user("devel")), Err(UsersFileError::Exists(_))));
    assert_eq!(fs::read(&file.path).unwrap(), before);
}

#[test]
fn brought_keys_are_taken_when_they_cant_be_guessed() {
    let file = fixture();
    let own = WskToken::generate().unwrap();
    let added = add_user(&file.path, NewUser { token: Some(own.clone()), ..user("devel") }).unwrap();
    assert!(added.is(own.uuid(), own.key()));
    for key in ["secret", "correct horse battery", &"a".repeat(64), &"ab".repeat(60)] {
        let weak = Some(token(&format!("u:{}", key.replace(' ', "%20"))));
        assert!(
            matches!(add_user(&file.path, NewUser { token: weak, ..user("w") }), Err(UsersFileError::WeakKey)),
            "{key}"
        );
    }
    let taken = add_user(&file.path, NewUser { token: Some(own), ..user("thief") });
    assert!(matches!(taken, Err(UsersFileError::Twice(_))));
}

#[test]
fn users_added_at_once_are_all_there() {
    let file = fixture();
    std::thread::scope(|scope| {
        for index in 0..8 {
            let path = &file.path;
            scope.spawn(move || add_user(path, user(&format!("user{index}"))).unwrap());
        }
    });
    assert_eq!(read(&file.path).unwrap().1.by_uuid.len(), 8);
}

#[test]
fn a_malformed_file_is_refused_with_its_place() {
    let path = Path::new("users.toml");
    let good = format!("token_uuid = \"u\"\nkey = \"{}\"\n", KeyHash::nobodys().to_text());
    for (text, said) in [
        ("[[users]]\nname = 1".to_owned(), "line 2"),
        ("\n\nuser = []".to_owned(), "line 3"),
        (format!("[[users]]\nname = \"a\"\n{good}extra = 1"), "line"),
        (format!("[[users]]\nname = \"A/b\"\n{good}"), "user 1"),
        (format!("[[users]]\nname = \"a\"\n{good}[[users]]\nname = \"b\"\n{good}"), "user b is there twice"),
        ("[[users]]\nname = \"a\"\ntoken_uuid = \"u\"\nkey = \"plain-canary\"".to_owned(), "line"),
    ] {
        let error = Users::parse(&text, path).err().unwrap().to_string();
        assert!(error.contains(said) && !error.contains("canary"), "{text}: {error}");
    }
}
