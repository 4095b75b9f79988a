variable "TAG" { default = "latest" }
variable "REGISTRIES" {
  type    = list(string)
  default = ["a.example", "b.example"]
}
variable "DEBUG" { default = false }
variable "COUNT" {
  type        = number
  default     = 2
  description = "How many"
  validation {
    condition     = COUNT > 0
    error_message = "COUNT must be positive"
  }
}
variable "EMPTY" {}
variable "TYPED" { type = string }
variable "SHAPE" {
  type    = object({ name = string, ports = list(number) })
  default = { name = "x", ports = [80] }
}

prefix = "pre-${TAG}"

function "tagged" {
  params          = [name]
  variadic_params = more
  result          = join(":", concat([name, TAG], more))
}

target "app" {
  tags = concat(
    [for registry in REGISTRIES : "${registry}/${tagged("app")}"],
    equal("", EMPTY) ? [] : ["empty:${EMPTY}"],
  )
  args = {
    prefix   = prefix
    sum      = 1 + COUNT * 2 - 4 / 2
    mod      = 7 % 3
    quote    = "a\tb \"c\" \u00e9 $${x} %%{y}"
    cond     = DEBUG ? "debug" : "release"
    logic    = (COUNT >= 2 && !DEBUG) || false
    null_arg = TYPED
    ports    = join(",", SHAPE.ports)
    first    = SHAPE.ports[0]
    splat    = join(",", [{ n = "a" }, { n = "b" }][*].n)
    old      = join(",", [{ n = "a" }, { n = "b" }].*.n)
    map      = jsonencode({ for key, value in { a = 1, b = 2 } : upper(key) => value if value > 1 })
    group    = jsonencode({ for word in ["ax", "ay", "b"] : substr(word, 0, 1) => word... })
    variadic = tagged("x", "y", "z")
    dyn      = { (TAG) = "key" }[TAG]
    platform = BAKE_LOCAL_PLATFORM
    text     = <<EOT
line ${TAG}
%{ for registry in REGISTRIES ~}
- ${registry}
%{ endfor ~}
%{ if DEBUG }debug%{ else }release%{ endif }
EOT
    indented = <<-EOT
      two
        four
      EOT
    neg      = -COUNT
  }
  context = target.base.context
  contexts = {
    root = BAKE_CMD_CONTEXT
  }
  dockerfile-inline = <<EOT
FROM scratch
ARG X=$${Y}
EOT
}

target "base" {
  context = "base"
}

group "default" { targets = ["app"] }
