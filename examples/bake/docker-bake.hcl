# A small site in two languages: one base image, and an image a language on top of it.
#
#   strake bake                        builds site-en and site-de, and the base that both start from, once
#   strake bake check                  runs the test stage of each
#   strake bake --print                shows what would be built
#   strake bake --set 'site-*.args.GREETING=Hi'
#   TAG=1.2 strake bake --push

variable "TAG" {
  default     = "dev"
  description = "The tag of the images"
  validation {
    condition     = can(regex("^[A-Za-z0-9_][A-Za-z0-9._-]*$", TAG))
    error_message = "TAG is no tag: ${TAG}"
  }
}

variable "LANGUAGES" {
  type    = list(string)
  default = ["en", "de"]
}

variable "REGISTRY" {
  default     = ""
  description = "Where the images are pushed to"
}

function "image" {
  params = [name]
  result = REGISTRY == "" ? "${name}:${TAG}" : "${REGISTRY}/${name}:${TAG}"
}

group "default" {
  targets = ["site"]
}

target "_common" {
  labels = {
    "org.opencontainers.image.version" = TAG
  }
}

# Nobody asks for it by name: the sites start from it, so it is built with them.
target "base" {
  inherits   = ["_common"]
  dockerfile = "base.Dockerfile"
}

target "site" {
  description = "The site in one language"
  name        = "site-${language}"
  matrix      = { language = LANGUAGES }
  inherits    = ["_common"]
  dockerfile  = "site.Dockerfile"
  contexts    = { base = "target:base", page = "pages/${language}" }
  args        = { LANGUAGE = language }
  target      = "site"
  tags        = [image("site-${language}")]
}

target "check" {
  description = "Tests of the site in one language"
  name        = "check-${language}"
  matrix      = { language = LANGUAGES }
  inherits    = ["site-${language}"]
  target      = "check"
  tags        = []
  output      = ["type=cacheonly"]
}
