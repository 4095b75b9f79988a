target "web_app" {
  args = { FROM_HCL = "hcl" }
  tags = ["web:hcl"]
}
