import type { NextConfig } from "next";

const config: NextConfig = {
  output: "export", // static files in out/, served by the runner
  poweredByHeader: false,
};

export default config;
