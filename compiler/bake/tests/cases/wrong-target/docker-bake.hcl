target "app" {
  inherits = ["bsae"]
  contexts = { a = "target:ap", b = "target:app" }
}
target "base" {
  inherits = ["loop"]
}
target "loop" {
  inherits = ["base"]
}
target "l1" {
  contexts = { x = "target:l2" }
}
target "l2" {
  contexts = { x = "target:l1", y = "target:lx" }
}
group "default" {
  targets = ["app", "base", "l1", "appp"]
}
