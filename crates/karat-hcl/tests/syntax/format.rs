//! Layout of files that are no documents of the suite.

use karat_hcl::format;

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
