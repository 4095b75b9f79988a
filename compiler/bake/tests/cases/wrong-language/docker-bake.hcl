variable "COUNT" {
  default = 0
  validation {
    condition     = COUNT > 0
    error_message = "COUNT is ${COUNT}, and must be positive"
  }
}
variable "A" { default = B }
variable "B" { default = A }
variable "T" {
  type    = list(number)
  default = ["x"]
}
variable "V" {
  typo = string
}
function "f" {
  params = [x]
  result = f(x)
}
target "app" {
  dockerflie = "x"
  tags       = "app:1"
  args = {
    a = COUTN
    b = uper("x")
    c = f(1)
    d = [1]
  }
  secret   = ["id=a,odd=b"]
  output   = ["dest=x"]
  platforms = [1, ["x"]]
  context  = target.bas.context
  pull     = "maybe"
  labels {
    a = "b"
  }
}
target "base" {
  description = target.base.description
  name        = "x"
}
target "m" {
  matrix = { a = [1, 2] }
}
target "n" {
  matrix = { a = ["x/y"] }
  name   = "n-${a}"
}
tagret "x" {}
thing "y" {}
group "default" {
  target = ["app"]
}
