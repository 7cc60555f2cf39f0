//! Archives that somebody made to do harm, or that something broke, and what must become of each: the
//! tree that a reader makes of it, or what it says is wrong.
#![expect(clippy::unwrap_used, reason = "what is written to memory is written")]

mod fault;
pub mod writer;

pub use fault::{Codec, Fault};
use writer::{Tar, bzip2, gzip, raw, record, xz, zstd};

/// An archive.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is odd about it.
    pub name: String,
    /// Its bytes.
    pub body: Vec<u8>,
    /// Every entry as a word (`path/`, `path=content`, `path->target`), or the fault.
    pub expected: Result<&'static str, Fault>,
}

/// The bounds that the corpus is made for: small enough to reach every one of them.
pub mod bounds {
    /// Bytes of a body.
    pub const BODY: u64 = 4 << 20;
    /// Bytes once decompressed.
    pub const UNPACKED: u64 = 2 << 20;
    /// How many times its size a body may become, beyond the first [`RATIO_FREE`] bytes.
    pub const RATIO: u64 = 100;
    /// What it may become at any ratio.
    pub const RATIO_FREE: u64 = 256 << 10;
    /// Entries.
    pub const ENTRIES: usize = 500;
    /// Bytes of names.
    pub const NAMES: u64 = 64 << 10;
    /// Folders within one another.
    pub const DEPTH: usize = 16;
    /// Bytes of memory of a decompressor.
    pub const DECODER_MEMORY: u64 = 16 << 20;
}

/// All of them.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut cases = Cases(Vec::new());
    for family in [paths, links, collisions, kinds, numbers, extended, ends, compressed, large] {
        family(&mut cases);
    }
    cases.0
}

struct Cases(Vec<Case>);

impl Cases {
    fn good(&mut self, name: impl Into<String>, body: Vec<u8>, tree: &'static str) {
        self.0.push(Case { name: name.into(), body, expected: Ok(tree) });
    }

    fn bad(&mut self, name: impl Into<String>, body: Vec<u8>, fault: Fault) {
        self.0.push(Case { name: name.into(), body, expected: Err(fault) });
    }
}

fn tar() -> Tar {
    Tar::default()
}

fn paths(cases: &mut Cases) {
    let long = |parts: usize, length: usize| vec!["n".repeat(length); parts].join("/");
    for (name, tree) in [
        ("a", "a=x"),
        ("./a", "a=x"),
        ("././a", "a=x"),
        ("b//a", "b/ b/a=x"),
        ("b/./a", "b/ b/a=x"),
        (".a", ".a=x"),
        ("..a", "..a=x"),
        ("...", "...=x"),
        ("a\\..\\b", "a\\..\\b=x"),
        ("C:a", "C:a=x"),
        ("-rf", "-rf=x"),
        ("ü", "ü=x"),
        ("BZh91", "BZh91=x"),
    ] {
        cases.good(format!("path {name:?}"), tar().file(name, b"x").end(), tree);
    }
    for (name, fault) in [
        ("/a", Fault::Absolute),
        ("//a", Fault::Absolute),
        ("..", Fault::Parent),
        ("../a", Fault::Parent),
        ("a/../b", Fault::Parent),
        ("./../a", Fault::Parent),
        ("a/..", Fault::Parent),
        ("", Fault::Unnamed),
        (".", Fault::Unnamed),
    ] {
        cases.bad(format!("path {name:?}"), tar().file(name, b"x").end(), fault);
        cases.bad(format!("PAX path {name:?}"), tar().pax(&[("path", name.as_bytes())]).file("", b"x").end(), fault);
    }
    for (name, bytes, fault) in [
        ("no UTF-8", &b"\xff\xfe"[..], Fault::NotUtf8),
        ("overlong dots", b"\xc0\xae\xc0\xae/x", Fault::NotUtf8),
        ("surrogate", b"\xed\xa0\x80", Fault::NotUtf8),
    ] {
        cases.bad(name, tar().entry(raw(b'0', bytes, 0), b"").end(), fault);
    }
    let pax = |path: &[u8]| tar().pax(&[("path", path)]).file("x", b"").end();
    cases.bad("NUL in a PAX path", pax(b"a\0b"), Fault::Nul);
    cases.bad("NUL in a GNU name", tar().extended(b'L', b"a\0b\0").file("x", b"").end(), Fault::Nul);
    cases.bad("component of 256", pax(long(1, 256).as_bytes()), Fault::LongName);
    cases.bad("path of 4097", pax(long(16, 255).as_bytes().repeat(2).as_slice()), Fault::LongName);
    cases.bad("17 deep", pax(long(17, 1).as_bytes()), Fault::Depth(16));
    cases.good("16 deep", pax(b"1/2/3/4/5/6/7/8/9/a/b/c/d/e/f/g"), "1/ 1/2/ 1/2/3/ 1/2/3/4/ 1/2/3/4/5/ 1/2/3/4/5/6/ 1/2/3/4/5/6/7/ 1/2/3/4/5/6/7/8/ 1/2/3/4/5/6/7/8/9/ 1/2/3/4/5/6/7/8/9/a/ 1/2/3/4/5/6/7/8/9/a/b/ 1/2/3/4/5/6/7/8/9/a/b/c/ 1/2/3/4/5/6/7/8/9/a/b/c/d/ 1/2/3/4/5/6/7/8/9/a/b/c/d/e/ 1/2/3/4/5/6/7/8/9/a/b/c/d/e/f/ 1/2/3/4/5/6/7/8/9/a/b/c/d/e/f/g=");
    cases.good("what follows a NUL in a field isn't the name", tar().entry(raw(b'0', b"a\0../b", 0), b"").end(), "a=");
    cases.good("ustar prefix", tar().entry(raw(b'0', b"a", 1).set(345, b"d/e"), b"x").end(), "d/ d/e/ d/e/a=x");
    cases.bad("prefix that climbs", tar().entry(raw(b'0', b"a", 0).set(345, b".."), b"").end(), Fault::Parent);
    cases.good(
        "GNU has times in the prefix",
        tar().entry(raw(b'0', b"a", 1).set(345, b"../x").gnu(), b"x").end(),
        "a=x",
    );
    cases.good(
        "v7 has no prefix",
        tar().entry(raw(b'0', b"a", 1).set(345, b"../x").set(257, &[0; 8]), b"x").end(),
        "a=x",
    );
}

fn links(cases: &mut Cases) {
    for (link, target, tree) in [
        ("l", "a", "l->a"),
        ("l", "/etc/passwd", "l->/etc/passwd"),
        ("l", "/../../etc", "l->/../../etc"),
        ("d/l", "../a", "d/ d/l->../a"),
        ("d/l", "..", "d/ d/l->.."),
        ("l", "l", "l->l"),
        ("l", "d/../a", "l->d/../a"),
        ("l", ".", "l->."),
    ] {
        cases.good(format!("symlink {link} -> {target}"), tar().symlink(link, target).end(), tree);
    }
    for (link, target, fault) in [
        ("l", "..", Fault::LinkLeaves),
        ("l", "../x", Fault::LinkLeaves),
        ("l", "a/../../x", Fault::LinkLeaves),
        ("d/l", "../../x", Fault::LinkLeaves),
        ("d/l", "./.././../x", Fault::LinkLeaves),
        ("l", "", Fault::Unnamed),
    ] {
        cases.bad(format!("symlink {link} -> {target}"), tar().symlink(link, target).end(), fault);
    }
    cases.bad("NUL in a PAX link", tar().pax(&[("linkpath", b"a\0b")]).symlink("l", "x").end(), Fault::Nul);
    cases.bad("link that isn't UTF-8", tar().entry(raw(b'2', b"l", 0).link(b"\xff"), b"").end(), Fault::NotUtf8);
    cases.bad("PAX link that leaves", tar().pax(&[("linkpath", b"../x")]).symlink("l", "x").end(), Fault::LinkLeaves);
    cases.bad("GNU link that leaves", tar().extended(b'K', b"../x\0").symlink("l", "x").end(), Fault::LinkLeaves);
    cases.good("GNU long link", tar().extended(b'K', b"y\0").symlink("l", "x").end(), "l->y");
    cases.bad("write through a symlink", tar().symlink("l", "/etc").file("l/x", b"").end(), Fault::BelowFile);
    cases.bad(
        "write through a hard link",
        tar().symlink("s", "/etc").hardlink("l", "s").file("l/x", b"").end(),
        Fault::BelowFile,
    );
    cases.bad("link under what was written", tar().file("l/x", b"").symlink("l", "/etc").end(), Fault::Conflict);

    let one = || tar().file("a", b"x");
    cases.good("hard link", one().hardlink("b", "a").end(), "a=x b=x");
    cases.good("hard link with ./", one().hardlink("./b", "./a").end(), "a=x b=x");
    cases.good("hard link before its file", tar().hardlink("b", "a").file("a", b"x").end(), "a=x b=x");
    cases.good("hard link to a hard link", one().hardlink("b", "a").hardlink("c", "b").end(), "a=x b=x c=x");
    cases.good(
        "chain before its file",
        tar().hardlink("c", "b").hardlink("b", "a").file("a", b"x").end(),
        "a=x b=x c=x",
    );
    cases.good("hard link to itself", one().hardlink("a", "a").end(), "a=x");
    cases.good("hard link to a symlink", tar().symlink("s", "a").hardlink("l", "s").end(), "l->a s->a");
    cases.good("hard link keeps what was", one().hardlink("b", "a").file("a", b"y").end(), "a=y b=x");
    cases.bad("moved symlink leaves", tar().symlink("d/s", "../a").hardlink("l", "d/s").end(), Fault::LinkLeaves);
    cases.bad("hard link to nothing", tar().hardlink("b", "a").end(), Fault::LinkMissing);
    cases.bad("hard link to the root", tar().hardlink("b", ".").end(), Fault::LinkMissing);
    cases.bad("hard link to itself alone", tar().hardlink("b", "b").end(), Fault::LinkLoop);
    cases.bad(
        "hard links in a ring",
        tar().hardlink("a", "b").hardlink("b", "c").hardlink("c", "a").end(),
        Fault::LinkLoop,
    );
    cases.bad(
        "hard link into a ring",
        tar().hardlink("z", "a").hardlink("a", "b").hardlink("b", "a").end(),
        Fault::LinkLoop,
    );
    cases.bad("hard link outside", tar().hardlink("b", "../a").end(), Fault::Parent);
    cases.bad("hard link to the host", tar().hardlink("b", "/etc/passwd").end(), Fault::Absolute);
    cases.bad("hard link to a folder", tar().dir("d").hardlink("b", "d").end(), Fault::LinkToFolder);
    cases.bad("hard link to a later folder", tar().hardlink("b", "d").dir("d").end(), Fault::LinkToFolder);
    cases.bad("hard link through a symlink", one().symlink("s", ".").hardlink("b", "s/a").end(), Fault::LinkMissing);
    let chain = (0..400).fold(tar(), |tar, n| tar.hardlink(&format!("l{n}"), &format!("l{}", n + 1)));
    cases.bad("400 links to nothing", chain.end(), Fault::LinkMissing);
}

fn collisions(cases: &mut Cases) {
    cases.good("the last file wins", tar().file("a", b"1").file("./a", b"2").end(), "a=2");
    cases.good("a symlink replaces a file", tar().file("a", b"1").symlink("a", "b").end(), "a->b");
    cases.good(
        "a file replaces a symlink, and not its target",
        tar().symlink("a", "/etc/passwd").file("a", b"1").end(),
        "a=1",
    );
    cases.good("a folder twice", tar().dir("d").dir("./d/").end(), "d/");
    cases.good("a folder after what lies in it", tar().file("d/a", b"1").dir("d").end(), "d/ d/a=1");
    cases.good("upper and lower case are two", tar().file("a", b"1").file("A", b"2").end(), "A=2 a=1");
    cases.good(
        "composed and decomposed are two",
        tar().file("\u{e9}", b"1").file("e\u{301}", b"2").end(),
        "e\u{301}=2 \u{e9}=1",
    );
    cases.bad("a file for a folder", tar().dir("a").file("a", b"").end(), Fault::Conflict);
    cases.bad("a folder for a file", tar().file("a", b"").dir("a").end(), Fault::Conflict);
    cases.bad("a folder for a symlink", tar().symlink("a", "b").dir("a").end(), Fault::Conflict);
    cases.bad("a file for the root", tar().file("./.", b"").end(), Fault::Unnamed);
    cases.bad("a symlink for the root", tar().symlink(".", "/etc").end(), Fault::Unnamed);
    cases.bad("below a file", tar().file("a", b"").file("a/b", b"").end(), Fault::BelowFile);
    cases.bad("deep below a file", tar().file("a", b"").file("a/b/c/d", b"").end(), Fault::BelowFile);
    cases.bad("below a link that waits", tar().hardlink("a", "b").file("a/b", b"").end(), Fault::BelowFile);
}

fn kinds(cases: &mut Cases) {
    let kind = |kind: u8| tar().entry(raw(kind, b"a", 0), b"").end();
    for (byte, fault) in [
        (b'3', Fault::Device),
        (b'4', Fault::Device),
        (b'6', Fault::Pipe),
        (b'S', Fault::Sparse),
        (b'D', Fault::Type('D')),
        (b'M', Fault::Type('M')),
        (b'N', Fault::Type('N')),
        (b'V', Fault::Type('V')),
        (b'X', Fault::Type('X')),
        (b'8', Fault::Type('8')),
        (0xff, Fault::Type('\u{ff}')),
    ] {
        cases.bad(format!("type {:?}", char::from(byte)), kind(byte), fault);
    }
    cases.good("contiguous file", kind(b'7'), "a=");
    cases.good("v7 file", kind(0), "a=");
    cases.good("v7 folder", tar().entry(raw(0, b"a/", 0), b"").end(), "a/");
    cases.good("the root", tar().dir("./").file("./a", b"1").end(), "a=1");
    for byte in [b'1', b'2', b'5'] {
        let header = raw(byte, b"a", 512).link(b"b");
        let name = format!("type {:?} with a header for its data", char::from(byte));
        cases.bad(name, tar().entry(header, &tar().file("evil", b"").0).end(), Fault::Sized);
    }
    cases.bad("folder by its slash with data", tar().file("a/", b"x").end(), Fault::Sized);
    for key in ["GNU.sparse.major", "GNU.sparse.map", "GNU.sparse.name", "GNU.sparse.realsize"] {
        cases.bad(key, tar().pax(&[(key, b"1")]).file("a", b"x").end(), Fault::Sparse);
    }
}

fn numbers(cases: &mut Cases) {
    let size = |field: &[u8]| tar().entry(raw(b'0', b"a", 0).set(124, field), b"x").end();
    cases.good("size behind blanks", size(b"         1 \0"), "a=x");
    cases.good("size without an end", size(b"000000000001"), "a=x");
    cases.good("size in base 256", size(b"\x80\0\0\0\0\0\0\0\0\0\0\x01"), "a=x");
    for (name, field) in [
        ("negative in base 256", &b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"[..]),
        ("over 64 bits", b"\x80\0\0\x01\0\0\0\0\0\0\0\0"),
        ("over 63 bits", b"\x80\0\0\0\x80\0\0\0\0\0\0\0"),
        ("minus", b"-0000000001\0"),
        ("plus", b"+0000000001\0"),
        ("eight", b"00000000008\0"),
        ("hexadecimal", b"0x000000001\0"),
        ("digits behind a NUL", b"0000\x000000\x31\0"),
    ] {
        cases.bad(format!("size: {name}"), size(field), Fault::Number("size"));
    }
    cases.bad("size beyond the body", size(b"77777777777\0"), Fault::Truncated);
    cases.bad(
        "size that overflows with its padding",
        size(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"),
        Fault::Truncated,
    );
    let mode = |field: &[u8]| tar().entry(raw(b'0', b"a", 0).set(100, field), b"").end();
    cases.good("mode with a file's type", mode(b"0100644\0"), "a=");
    cases.bad("mode: no number", mode(b"rw-r--r-"), Fault::Number("mode"));
    cases.bad("mode: over 32 bits", mode(b"\x80\0\x01\0\0\0\0\0"), Fault::Number("mode"));
    let checksum = |field: &[u8]| tar().file("a", b"").entry(raw(b'0', b"b", 0).set(148, field), b"").end();
    cases.bad("wrong checksum", checksum(b"000001\0 "), Fault::Checksum);
    cases.bad("no checksum", checksum(b"        "), Fault::Checksum);
    cases.bad("checksum that is no number", checksum(b"********"), Fault::Checksum);
}

fn extended(cases: &mut Cases) {
    let x = |bytes: &[u8]| tar().extended(b'x', bytes).file("a", b"x").end();
    cases.good("PAX path", tar().pax(&[("path", b"d/b")]).file("a", b"x").end(), "d/ d/b=x");
    cases.good(
        "what doesn't count",
        tar().pax(&[("mtime", b"1.5"), ("uid", b"-7"), ("SCHILY.xattr.user.x", b"a\nb\0")]).file("a", b"x").end(),
        "a=x",
    );
    cases.good(
        "it counts for one entry",
        tar().pax(&[("path", b"b")]).file("a", b"x").file("c", b"y").end(),
        "b=x c=y",
    );
    cases.good("the last of two records", tar().pax(&[("path", b"b"), ("path", b"c")]).file("a", b"x").end(), "c=x");
    cases.good("an empty value takes back", tar().pax(&[("path", b"b"), ("path", b"")]).file("a", b"x").end(), "a=x");
    cases.good("line feed in a path", tar().pax(&[("path", b"a\n9 path=..")]).file("a", b"x").end(), "a\n9 path=..=x");
    cases.good("GNU long name", tar().extended(b'L', b"d/b\0").file("a", b"x").end(), "d/ d/b=x");
    let inner = tar().file("evil", b"!").0;
    let shrunk = tar().pax(&[("size", b"0")]).entry(raw(b'0', b"a", inner.len() as u64), &inner);
    cases.good("PAX size of nothing", shrunk.end(), "a= evil=!");
    let huge = tar().pax(&[("size", b"9223372036854775807")]).file("a", b"x").end();
    cases.bad("PAX size beyond the body", huge, Fault::Truncated);
    for size in ["-1", "+1", "0x1", "1.0", " 1", "9223372036854775808", "99999999999999999999999"] {
        let body = tar().pax(&[("size", size.as_bytes())]).file("a", b"x").end();
        cases.bad(format!("PAX size {size:?}"), body, Fault::Number("size"));
    }
    for (name, records) in [
        ("no length", &b"path=b\n"[..]),
        ("length too short", b"5 path=b\n"),
        ("length too long", b"99 path=b\n"),
        ("length of nothing", b"0 path=b\n"),
        ("length of itself", b"2 "),
        ("negative length", b"-9 path=b\n"),
        ("length that overflows", b"99999999999999999999 path=b\n"),
        ("no line feed", b"9 path=bc"),
        ("no equals sign", b"7 path\n"),
        ("no key", b"5 =b\n"),
        ("NULs behind the records", b"9 path=b\n\0\0\0"),
    ] {
        cases.bad(format!("PAX record: {name}"), x(records), Fault::Pax);
    }
    cases.bad(
        "extended header over 1 MiB",
        tar().extended(b'x', &vec![b'x'; (1 << 20) + 1]).file("a", b"").end(),
        Fault::ExtendedSize,
    );
    cases.bad(
        "long name over 1 MiB",
        tar().extended(b'L', &vec![b'x'; (1 << 20) + 1]).file("a", b"").end(),
        Fault::ExtendedSize,
    );
    cases.bad("extended header cut off", tar().entry(raw(b'x', b"x", 4096), b"").0, Fault::Truncated);
    cases.bad(
        "two PAX headers",
        tar().pax(&[("path", b"b")]).pax(&[("path", b"c")]).file("a", b"").end(),
        Fault::Ambiguous,
    );
    cases.bad("two long names", tar().extended(b'L', b"b").extended(b'L', b"c").file("a", b"").end(), Fault::Ambiguous);
    cases.bad(
        "PAX path and long name",
        tar().pax(&[("path", b"b")]).extended(b'L', b"c").file("a", b"").end(),
        Fault::Ambiguous,
    );
    cases.bad("PAX header before the end", tar().pax(&[("path", b"b")]).end(), Fault::Dangling);
    cases.bad("long name before the end", tar().extended(b'L', b"b").end(), Fault::Dangling);
    let global = |key, value: &[u8]| tar().extended(b'g', &record(key, value)).file("a", b"x").end();
    cases.good("git archive", global("comment", b"0123456789abcdef"), "a=x");
    for key in ["path", "linkpath", "size", "hdrcharset", "GNU.sparse.name"] {
        cases.bad(format!("global {key}"), global(key, b"1"), Fault::Global);
    }
    cases.bad("malformed global header", tar().extended(b'g', b"nothing").file("a", b"").end(), Fault::Pax);
}

fn ends(cases: &mut Cases) {
    let whole = tar().file("a", b"x").dir("d").file("d/b", &[b'y'; 700]).end();
    let data = whole.len() - 1024;
    for cut in (512..data).step_by(100).chain([data]) {
        cases.bad(format!("cut off at {cut}"), whole[..cut].to_vec(), Fault::Truncated);
    }
    for cut in [1, 100, 511] {
        cases.bad(format!("cut off at {cut}"), whole[..cut].to_vec(), Fault::NotTar);
    }
    let small = tar().file("a", b"x").0;
    let with = |zeros: usize, more: &[u8]| [&small, &vec![0; zeros][..], more].concat();
    cases.good("one block of zeros", with(512, b""), "a=x");
    cases.good("zeros up to a record", with(10_240 - 1024, b""), "a=x");
    cases.good("zeros that fill no block", with(1024, &[0; 7]), "a=x");
    cases.bad("half a block of zeros", with(256, b""), Fault::Truncated);
    cases.bad("garbage", with(1024, b"x"), Fault::Trailing);
    cases.bad("garbage behind many zeros", with(300_000, b"x"), Fault::Trailing);
    cases.bad("another archive", with(1024, &small), Fault::Trailing);
    cases.bad("another archive behind one block", with(512, &small), Fault::Trailing);
    cases.good("nothing", Vec::new(), "");
    cases.good("zeros alone", vec![0; 10_240], "");
    cases.bad("text", b"FROM scratch\n".repeat(100), Fault::NotTar);
    cases.bad("a zip", [&b"PK\x03\x04"[..], &[7; 600]].concat(), Fault::NotTar);
    cases.bad("an executable", [&b"\x7fELF"[..], &[1; 600]].concat(), Fault::NotTar);
    cases.bad("ones", vec![0xff; 2048], Fault::NotTar);
}

fn compressed(cases: &mut Cases) {
    let plain = tar().file("a", b"x").end();
    let bomb = tar().file("a", &vec![0; 1 << 20]).end();
    let large = tar().file("a", &noise(2 << 20)).end();
    type Encode = fn(&[u8]) -> Vec<u8>;
    let codecs: [(Codec, Encode); 4] =
        [(Codec::Gzip, gzip), (Codec::Bzip2, bzip2), (Codec::Xz, |bytes| xz(bytes, 1 << 20)), (Codec::Zstd, zstd)];
    for (codec, encode) in codecs {
        let whole = encode(&plain);
        cases.good(codec.to_string(), whole.clone(), "a=x");
        cases.good(format!("{codec}: in two parts"), [encode(&plain[..700]), encode(&plain[700..])].concat(), "a=x");
        cases.good(format!("{codec}: of nothing"), encode(b""), "");
        for cut in [1, 5, 9] {
            let body = whole[..whole.len() - cut].to_vec();
            cases.bad(format!("{codec}: {cut} bytes missing"), body, Fault::Compressed(codec));
        }
        cases.bad(format!("{codec}: garbage behind it"), [&whole[..], b"garbage!"].concat(), Fault::Compressed(codec));
        cases.bad(format!("{codec}: bomb"), encode(&bomb), Fault::Ratio(100));
        cases.bad(format!("{codec}: too large"), encode(&large), Fault::Unpacked(2 << 20));
        cases.bad(format!("{codec}: within itself"), encode(&whole), Fault::NotTar);
        cases.bad(format!("{codec}: of a cut off archive"), encode(&plain[..1024]), Fault::Truncated);
        cases.bad(format!("{codec}: magic alone"), whole[..10].to_vec(), Fault::Compressed(codec));
    }
    cases.bad("xz: dictionary of 64 MiB", xz(&plain, 64 << 20), Fault::DecoderMemory(Codec::Xz));
    let window = b"\x28\xb5\x2f\xfd\x00\x88\x01\x00\x00".to_vec();
    cases.bad("zstd: window of 128 MiB", window, Fault::DecoderMemory(Codec::Zstd));
}

fn large(cases: &mut Cases) {
    let many = |count: usize| (0..count).fold(tar(), |tar, n| tar.file(&n.to_string(), b""));
    cases.bad("an entry too many", many(501).end(), Fault::Entries(500));
    let folders = (0..34).fold(tar(), |tar, n| tar.file(&format!("{n}/2/3/4/5/6/7/8/9/a/b/c/d/e/f"), b""));
    cases.bad("folders that nobody wrote count", folders.end(), Fault::Entries(500));
    let names = (0..300).fold(tar(), |tar, n| {
        let name = format!("{n}{}", "n".repeat(250));
        tar.pax(&[("path", name.as_bytes())]).file("", b"")
    });
    cases.bad("names of 64 KiB", names.end(), Fault::Names(64 << 10));
    let targets = (0..40).fold(tar(), |tar, n| tar.pax(&[("linkpath", &[b'x'; 2000])]).symlink(&n.to_string(), ""));
    cases.bad("targets of 64 KiB", targets.end(), Fault::Names(64 << 10));
    let farm = (0..5).fold(tar().file("a", &noise(500_000)), |tar, n| tar.hardlink(&n.to_string(), "a"));
    cases.bad("each link to a large file counts", farm.end(), Fault::Unpacked(2 << 20));
}

/// Bytes that can't be compressed.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..length).map(next).collect()
}
