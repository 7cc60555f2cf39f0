//! What builds write is never more than text on the page, and never too much of it.

use crate::{launch, run, visitor::Visitor};

/// Markup, a terminal's commands, text turned around, and more of all of it than a page has room for.
const SCRIPT: &str = r#"
printf '<script>alert("canary")</script><img src=x onerror=alert(1)>\n'
printf '\033[31mred\033[0m\033]0;title\007 \033[2J\033[H\010\000\342\200\256turned\n'
printf '</pre></section></main><h1>canary</h1>\n'
i=0
while [ $i -lt 3000 ]; do echo "<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<< $i"; i=$((i+1)); done
head -c 300000 /dev/zero | tr '\0' '"'
printf '\nthe last line <b>\n'
exit 3"#;

#[tokio::test]
async fn what_a_step_writes_is_text_however_hostile_and_the_page_stays_small() {
    let kiln = launch().start().await;
    let client = kiln.client("devel");
    let early = run(&client, "devel:early", &SCRIPT.lines().take(4).collect::<Vec<_>>().join("\n")).await;
    let long = run(&client, "devel:long", SCRIPT).await;
    let devel = Visitor::signed_in(&kiln, "devel").await;
    let built = client.ended(&early).await;
    let page = devel.get(&format!("/builds/{early}")).await.text;
    assert!(page.contains("&#60;script&#62;alert(&#34;canary&#34;)&#60;/script&#62;"), "{built:#}\n{page}");
    assert!(page.contains("red \u{fffd}") || page.contains("red "), "{page}");
    assert_eq!(client.ended(&long).await["state"], "failed");
    let page_of_long = devel.get(&format!("/builds/{long}")).await.text;
    assert!(page_of_long.contains("the last line &#60;b&#62;"), "{page_of_long}");
    assert!(page_of_long.contains("These are the last lines"));
    let list = devel.get("/").await.text;
    for (what, text) in [("early", &page), ("long", &page_of_long), ("list", &list)] {
        assert!(!text.contains("<script>") && !text.contains("<img src=x") && !text.contains("<h1>canary"), "{what}");
        assert_eq!(text.matches("</main>").count(), 1, "{what}");
        let odd = |letter: char| (letter.is_control() && !"\n\t".contains(letter)) || letter == '\u{202e}';
        assert!(!text.contains(odd), "{what}: {:?}", text.chars().find(|letter| odd(*letter)));
        let mut weight = text.len();
        for asset in ["page.css", "page.js", "icon.svg"] {
            weight += devel.get(&format!("/assets/{asset}")).await.text.len();
        }
        assert!(weight <= 100_000, "{what}: {weight} bytes");
    }
    let raw = devel.get(&format!("/builds/{long}/log")).await;
    let said = (raw.header("content-type"), raw.header("x-content-type-options"));
    assert_eq!(said, ("text/plain; charset=utf-8", "nosniff"));
}
