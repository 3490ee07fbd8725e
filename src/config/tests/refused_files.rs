//! Files that are refused before their sections are read.

use insta::assert_snapshot;

use super::said_about;

#[test]
fn syntax_errors_have_a_line() {
    assert_snapshot!(said_about(&[("c.toml", b"[server]\n\nlisten = 127.0.0.1:8460\n")]), @"c.toml:3: is not TOML here: invalid float, expected nothing");
}

#[test]
fn repeated_keys_are_syntax_errors() {
    assert_snapshot!(said_about(&[("c.toml", b"[sources.a]\ntoken = \"hunter2\"\n[sources.a]\n")]), @"c.toml:3: is not TOML here: duplicate key");
}

#[test]
fn an_empty_file_is_refused() {
    assert_snapshot!(said_about(&[("c.toml", b"")]), @"c.toml: is empty; write a configuration (config.example.toml shows every key)");
}

#[test]
fn a_file_of_comments_is_empty() {
    assert_snapshot!(said_about(&[("c.toml", b"# nothing yet\n")]), @"c.toml: is empty; write a configuration (config.example.toml shows every key)");
}

#[test]
fn bytes_that_are_no_text_have_a_line() {
    assert_snapshot!(said_about(&[("c.toml", b"[server]\n# \xff\n")]), @"c.toml:2: is not UTF-8; save the file as UTF-8 text");
}

#[test]
fn names_given_in_two_files_name_both() {
    assert_snapshot!(said_about(&[
("c.toml", b"include = [\"d/*.toml\"]\n[sources.a]\ntoken = \"x\"\n[server]\ndrain = \"1s\"\n"),
("d/1.toml", b"[sources.a]\ntoken = \"y\"\n"),
("d/2.toml", b"server.drain = \"2s\"\n"),
]), @r"
d/1.toml:1: sources.a: is already given in c.toml:2; keep one of the two
d/2.toml:1: server.drain: is already given in c.toml:5; keep one of the two
warning: c.toml: destinations: no destination is configured: events are kept and go nowhere
");
}

#[test]
fn every_bad_file_is_named() {
    assert_snapshot!(said_about(&[("c.toml", b"include = [\"d/*.toml\", \"none.toml\"]\n"), ("d/1.toml", b"a = \n"), ("d/2.toml", b"b\n")]), @r"
    d/1.toml:1: is not TOML here: string values must be quoted, expected literal string
    d/2.toml:1: is not TOML here: key with no value, expected `=`
    none.toml: the file does not exist; create it or name another file
    ");
}

#[test]
fn included_files_do_not_include() {
    assert_snapshot!(said_about(&[("c.toml", b"include = [\"d.toml\"]\n"), ("d.toml", b"include = [\"e.toml\"]\n")]), @r"
    d.toml:1: include: stands in an included file; move it to c.toml
    warning: c.toml: destinations: no destination is configured: events are kept and go nowhere
    warning: c.toml: sources: no source is configured: nobody can send events
    ");
}

#[test]
fn patterns_are_simple() {
    assert_snapshot!(said_about(&[("c.toml", b"include = [\"*/x.toml\", 5, \"none/*.toml\", \"**\"]\n")]), @r#"
    c.toml:1: include[0]: may have * and ? in the file name only; write a pattern like "destinations.d/*.toml"
    c.toml:1: include[1]: is a whole number; write a pattern in quotes, like "destinations.d/*.toml"
    c.toml:1: include[3]: may have * and ? in the file name only; write a pattern like "destinations.d/*.toml"
    warning: c.toml: destinations: no destination is configured: events are kept and go nowhere
    warning: c.toml: sources: no source is configured: nobody can send events
    warning: c.toml:1: include[2]: matches no file
    "#);
}

#[test]
fn include_is_a_list() {
    assert_snapshot!(said_about(&[("c.toml", b"include = \"d/*.toml\"\n")]), @r#"
    c.toml:1: include: is a text; write a list of patterns, like ["destinations.d/*.toml"]
    warning: c.toml: destinations: no destination is configured: events are kept and go nowhere
    warning: c.toml: sources: no source is configured: nobody can send events
    "#);
}

#[test]
fn the_file_must_be_a_regular_file_of_bounded_size() {
    let big = vec![b'#'; 1024 * 1024 + 1];
    let dir = super::written(&[("big.toml", &big)]);
    let said: Vec<String> = ["big.toml", "none.toml", "."]
        .map(|name| {
            super::load(&dir.path().join(name))
                .err()
                .map_or_else(String::new, |report| report.problems[0].detail.clone())
        })
        .to_vec();
    assert_snapshot!(said.join("\n"), @r"
    the file is larger than 1024 KiB; is it the right file?
    the file does not exist; create it or name another file
    the file is a directory; name a file
    ");
}
