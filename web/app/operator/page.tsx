import type { Metadata } from "next";
import { Operator } from "../../operator/Operator";
import "uplot/dist/uPlot.min.css";
import "../../operator/operator.css";

export const metadata: Metadata = {
  title: "Operator",
  description: "See and steer the voice agent: calls, documents, instructions, providers.",
  robots: { index: false, follow: false },
};

export default function Page() {
  return <Operator />;
}
