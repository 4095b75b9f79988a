variable "VERSIONS" {
  default = ["1.1", "1.2"]
}

target "app" {
  name   = "app-${item.tgt}-${sanitize(version)}"
  matrix = {
    item = [
      { tgt = "lint", args = {} },
      { tgt = "build", args = { GOFLAGS = "-v" } },
    ]
    version = VERSIONS
  }
  target = item.tgt
  args   = merge({ VERSION = version }, item.args)
  tags   = ["app:${version}-${item.tgt}"]
}

target "user" {
  # An attribute of a target that a matrix made.
  tags = [for tag in target.app-lint-1_1.tags : replace(tag, "app", "user")]
}

group "default" {
  targets = ["app"]
}
