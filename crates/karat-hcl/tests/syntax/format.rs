//! Layout and errors of files that are no documents of the suite.

use karat_hcl::diag::SourceId;
use karat_hcl::{format, parse};

#[test]
fn byte_order_mark_and_tabs_go() {
    assert_eq!(format("\u{feff}\ta\t=\t1\n"), "a = 1\n");
}

#[test]
fn line_ends_stay() {
    assert_eq!(format("a=1\r\nbb=2 # c\r\n"), "a  = 1\r\nbb = 2 # c\r\n");
    assert_eq!(format("a=1"), "a = 1");
    assert_eq!(format(""), "");
}

#[test]
fn a_heredoc_holds_no_carriage_return_of_its_own() {
    let errors = |text: &str| {
        let (_, diagnostics) = parse(SourceId(0), text);
        diagnostics.iter().map(|diag| diag.summary.clone()).collect::<Vec<_>>()
    };
    assert_eq!(errors("a = <<E\r\nb\r\n${1}%\r\nE\r\n"), [""; 0]);
    assert_eq!(errors("a = <<E\nb\rc\nE\n"), ["Invalid character"]);
    assert_eq!(errors("a = <<E\nb\r\r\nE\n"), ["Invalid character"]);
}
