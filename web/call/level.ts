const QUIETEST_DB = -60;
const FALL = 0.97; // of the level from one frame to the next, so that the eye can follow

/** Opens a microphone and tells how loud it is, from 0 to 1, for each frame that is drawn; the
 * answer closes it. */
export async function listen(
  device: string,
  onLevel: (level: number) => void,
): Promise<() => void> {
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: device ? { deviceId: { exact: device } } : true,
  });
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  context.createMediaStreamSource(stream).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  let level = 0;
  let frame = requestAnimationFrame(function measure() {
    analyser.getFloatTimeDomainData(samples);
    level = Math.max(loudness(samples), level * FALL);
    onLevel(level);
    frame = requestAnimationFrame(measure);
  });
  return () => {
    cancelAnimationFrame(frame);
    stream.getTracks().forEach((track) => track.stop());
    void context.close();
  };
}

/** 0 at −60 dB below full scale and under it, 1 at full scale. */
function loudness(samples: Float32Array): number {
  const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
  const decibels = 10 * Math.log10(Math.max(power, 1e-12));
  return Math.min(1, Math.max(0, 1 - decibels / QUIETEST_DB));
}
