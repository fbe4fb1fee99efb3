source "null" "x" {}

