import type { Metadata, Viewport } from "next";
import type { ReactNode } from "react";
import "./plain.css";

export const metadata: Metadata = {
  title: "Voice agent",
  description: "Call a voice agent that answers from its documents.",
};

export const viewport: Viewport = {
  colorScheme: "light dark",
  themeColor: [
    { media: "(prefers-color-scheme: light)", color: "#f7f7f4" },
    { media: "(prefers-color-scheme: dark)", color: "#121416" },
  ],
};

export default function Layout({ children }: { children: ReactNode }) {
  return (
    <html lang="en">
      <body>{children}</body>
    </html>
  );
}
